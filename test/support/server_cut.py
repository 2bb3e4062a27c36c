"""What a power cut leaves of a directory whose changes power_cut_names_shim.c has noted: of each page
and each size any state since the last sync of the file, of the names in a directory those of some
moment since the directory's last sync."""

import os
import pathlib
import shutil
import struct
import subprocess

PAGE = 4096
NOTE = struct.Struct("<7Q")
DATA_BEGINS, ENDS, SYNC_BEGINS, SYNC_ENDS, MADE, REMOVED, RENAMED = range(1, 8)
NONE = (1 << 64) - 1


def build_shim(directory):
    source = pathlib.Path(__file__).with_name("power_cut_names_shim.c")
    shim = pathlib.Path(directory) / "power_cut_names_shim.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return shim


class Change:
    def __init__(self, what, inode, offset, size, names, old):
        self.what, self.inode, self.offset, self.size = what, inode, offset, size
        self.names, self.old = names, old


def notes(trace):
    data = pathlib.Path(trace).read_bytes()
    at = 0
    while at + NOTE.size <= len(data):
        what, number, inode, offset, size, names, length = NOTE.unpack_from(data, at)
        at += NOTE.size
        if at + names + length > len(data):
            return  # the end of the process cut it off
        texts = [t.decode() for t in data[at:at + names].split(b"\0")[:3]]
        yield number, Change(what, inode, offset, size, texts, data[at + names:at + names + length])
        at += names + length


def unsynced(trace):
    """The changes that no sync covers, in order."""
    changes, ended, covered = {}, set(), {}
    for number, note in notes(trace):
        if note.what == ENDS:
            ended.add(number)
        elif note.what == SYNC_BEGINS:
            covered[number] = [n for n in ended if changes[n].inode == note.inode]
        elif note.what == SYNC_ENDS:
            for change in covered.pop(number):
                changes.pop(change, None)
                ended.discard(change)
        else:
            changes[number] = note
    return [changes[number] for number in sorted(changes)]


def undo_name(change):
    directory, first, second = (pathlib.Path(t) for t in change.names)
    first, second = directory / first, directory / second
    if not directory.is_dir():
        return  # that it was made was lost too
    if change.what == MADE:
        if first.is_dir() and not first.is_symlink():
            shutil.rmtree(first)
        else:
            first.unlink(missing_ok=True)
        return
    if not os.path.lexists(first):  # else it had not come to the change itself
        if change.what == RENAMED:
            if not os.path.lexists(second) or not first.parent.is_dir():
                return
            os.rename(second, first)
        if change.size != NONE:
            put_back = second if change.what == RENAMED else first
            put_back.write_bytes(change.old)
            put_back.chmod(0o600)


def undo_data(path, changes, random):
    """How many pages are not as they were written last."""
    info = os.stat(path)
    states = {}
    for change in changes:
        end = change.offset + max(len(change.old), 1)
        for page in range(change.offset // PAGE, (end + PAGE - 1) // PAGE):
            begin = max(page * PAGE, change.offset)
            states.setdefault(page, []).append(
                (begin, change.old[begin - change.offset:(page + 1) * PAGE - change.offset]))
    in_order = random.random() < 0.3  # the disk did nothing of what it was not told to
    lost = 0
    sizes = [change.size for change in changes] + [info.st_size]
    with open(path, "r+b") as f:
        for page, replaced in states.items():
            undone = len(replaced) if in_order else random.randrange(len(replaced) + 1)
            for begin, old in reversed(replaced[len(replaced) - undone:]):
                f.seek(begin)
                f.write(old)
            lost += undone > 0
        f.truncate(sizes[0] if in_order else random.choice(sizes))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return lost


def cut(directory, trace, random):
    """Takes the power from a directory that nobody has open. How much is lost: pages and names."""
    changes = unsynced(trace)
    data, names = {}, {}
    for change in changes:
        (data if change.what == DATA_BEGINS else names).setdefault(change.inode, []).append(change)
    paths = {}
    for root, _, files in os.walk(directory):
        for name in files:
            path = os.path.join(root, name)
            paths[os.lstat(path).st_ino] = path
    lost = sum(undo_data(paths[inode], of_file, random)
               for inode, of_file in data.items() if inode in paths)
    for of_directory in names.values():
        undone = random.randrange(len(of_directory) + 1)
        for change in reversed(of_directory[len(of_directory) - undone:]):
            undo_name(change)
        lost += undone
    return lost
