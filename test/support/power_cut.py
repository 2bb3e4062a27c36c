"""What a power cut leaves of files whose writes power_cut_shim.c has noted."""

import pathlib
import struct
import subprocess

PAGE = 4096
NOTE = struct.Struct("<5Q")
WRITE_BEGINS, WRITE_ENDS, SYNC_BEGINS, SYNC_ENDS = 1, 2, 3, 4


def build_shim(directory):
    source = pathlib.Path(__file__).with_name("power_cut_shim.c")
    shim = pathlib.Path(directory) / "power_cut_shim.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return shim


def environment(shim, directory, trace, syncs=True):
    return {"LD_PRELOAD": shim, "POWER_CUT_DIRECTORY": directory, "POWER_CUT_TRACE": trace,
            "POWER_CUT_NO_SYNC": None if syncs else "1"}


def notes(trace):
    """(what, id, inode, offset, old content) in order; a last one that was cut off is left out."""
    data = pathlib.Path(trace).read_bytes()
    at = 0
    while at + NOTE.size <= len(data):
        what, number, inode, offset, length = NOTE.unpack_from(data, at)
        at += NOTE.size
        if at + length > len(data):
            return
        yield what, number, inode, offset, data[at:at + length]
        at += length


def unsynced(trace):
    """(inode, offset, old content) of the writes that no sync covers, in order."""
    writes = {}    # by number: inode, offset, old content
    ended = set()
    covered = {}   # by a sync's number: the writes that had ended before it
    for what, number, inode, offset, old in notes(trace):
        if what == WRITE_BEGINS:
            writes[number] = (inode, offset, old)
        elif what == WRITE_ENDS:
            ended.add(number)
        elif what == SYNC_BEGINS:
            covered[number] = [n for n in ended if writes[n][0] == inode]
        elif what == SYNC_ENDS:
            for write in covered.pop(number):
                writes.pop(write, None)
                ended.discard(write)
    return [writes[number] for number in sorted(writes)]


def cut(directory, trace, random):
    """Takes the power from the files of a directory that nobody has open: of each page that was
    written since the last sync, any of its states since then may be what is on the disk. Returns
    how many pages are not as they were written last."""
    files = {p.stat().st_ino: p for p in pathlib.Path(directory).iterdir() if p.is_file()}
    states = {}  # by inode and page: the contents that each write replaced, as (from, bytes) in it
    for inode, offset, old in unsynced(trace):
        for page in range(offset // PAGE, (offset + len(old) + PAGE - 1) // PAGE):
            begin = max(page * PAGE, offset)
            end = min((page + 1) * PAGE, offset + len(old))
            states.setdefault((inode, page), []).append((begin, old[begin - offset:end - offset]))
    kept_all_before = random.random() < 0.3  # as if the disk had worked in order
    lost = 0
    for (inode, page), replaced in states.items():
        if inode not in files:
            continue
        undone = random.randrange(len(replaced) + 1)
        if kept_all_before and random.random() < 0.8:
            undone = 0
        with open(files[inode], "r+b") as f:
            for begin, old in reversed(replaced[len(replaced) - undone:]):
                f.seek(begin)
                f.write(old)
        lost += undone > 0
    return lost
