"""A load of random changes to files of a mount, with a record of what was promised.

Every file has a model: its content as the calls that returned have made it. A call that failed
because the mount died may have happened or not, whole: the model then has two possible contents
until somebody has looked. Standard library only.
"""

import collections
import ctypes
import errno
import mmap
import os
import pathlib
import random
import struct
import threading

libc = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
FILE_MAX = 640 * 1024
HOT = 128 * 1024  # most writes go below it: so they meet what is unsent or being sent


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Record:
    """What a file must read as."""

    def __init__(self, content=b""):
        self.content = bytearray(content)
        self.maybe = None     # the content if the call that was cut off happened all the same
        self.cut = None       # (offset, data) of a write that was cut off: the kernel may split it
        self.acked = []       # (offset, end) of writes that returned, since `mark_sent`
        self.second = False   # the call that was cut off wrote to one of these
        self.synced = None    # content at the last fsync that returned

    def matches(self, content):
        return any(content == bytes(possible) for possible in self.possible())

    def possible(self):
        yield self.content
        if self.maybe is None:
            return
        yield self.maybe
        if self.cut is not None:
            offset, data = self.cut
            for end in range((offset // 4096 + 1) * 4096, offset + len(data), 4096):
                yield with_range(self.content, offset, data[:end - offset])

    def settle(self, content):
        """Somebody has looked."""
        self.content, self.maybe, self.cut = bytearray(content), None, None
        self.acked, self.second = [], False

    def explain(self, content):
        """Where a content differs from what it may be."""
        words = []
        for name, want in (("acknowledged", self.content), ("with the last call", self.maybe)):
            if want is None:
                continue
            at = next((i for i, (a, b) in enumerate(zip(content, want)) if a != b),
                      min(len(content), len(want)))
            count = sum(a != b for a, b in zip(content, want))
            words.append(f"{name}: size {len(want)}, is {len(content)}; first difference at {at}, "
                         f"{count} bytes differ; there {bytes(content[at:at + 16]).hex()}, "
                         f"wanted {bytes(want[at:at + 16]).hex()}")
        return "; ".join(words)


def resized(content, size):
    content = bytearray(content[:size])
    content += bytes(size - len(content))
    return content


def with_range(content, offset, data, keep_size=False):
    """`data` put at an offset; what lies between is zeros."""
    if keep_size:
        data = data[:max(0, len(content) - offset)]
    if not data:
        return bytearray(content)
    out = resized(content, max(len(content), offset + len(data)))
    out[offset:offset + len(data)] = data
    return out


class FileLoad:
    """Changes one open file and keeps its record. One thread at a time."""

    def __init__(self, path, record, seed):
        self.path = pathlib.Path(path)
        self.record = record
        self.random = random.Random(seed)
        self.fd = None
        self.calls = 0
        self.did = collections.deque(maxlen=int(os.environ.get("SLIPWAY_TEST_CALLS", "12")))  # for the message of a failure

    def open(self):
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def close(self):
        if self.fd is not None:
            fd, self.fd = self.fd, None
            try:
                os.close(fd)
            except OSError:
                pass  # of a mount that died

    def range(self):
        r = self.random
        top = HOT if r.random() < 0.7 else FILE_MAX
        offset = r.randrange(top)
        length = min(r.choice((1, 100, 4096, 5000, 16384, 40000, 131072)), FILE_MAX - offset)
        if r.random() < 0.5:
            offset, length = offset // 4096 * 4096, max(4096, length // 4096 * 4096)
        return offset, length

    def data(self, length):
        r = self.random
        kind = r.random()
        if kind < 0.1:
            return bytes(length)
        if kind < 0.4:
            line = b"call %d of %s\n" % (self.calls, self.path.name.encode())
            return (line * (length // len(line) + 1))[:length]
        return r.randbytes(length)

    def step(self):
        """One random call. OSError: the mount is gone; the record knows what may have happened."""
        self.calls += 1
        r = self.random
        kind = r.random()
        if kind < 0.80:
            offset, length = self.range()
            self.write(offset, self.data(length))
        elif kind < 0.85:
            self.truncate(r.randrange(FILE_MAX))
        elif kind < 0.89:
            self.clear(PUNCH_HOLE | KEEP_SIZE)
        elif kind < 0.93:
            self.clear(ZERO_RANGE | r.choice((0, KEEP_SIZE)))
        else:
            self.sync()

    def attempt(self, after, call):
        self.record.maybe = after
        call()
        self.record.content, self.record.maybe = after, None

    def write(self, offset, data):
        record = self.record
        after = with_range(record.content, offset, data)
        end = offset + len(data)
        self.did.append(f"write {offset}-{end}")

        def call():
            if os.pwrite(self.fd, data, offset) != len(data):
                raise OSError("a short write: the mount died in it")

        record.cut = (offset, data)
        try:
            self.attempt(after, call)
            record.cut = None
        except OSError:
            record.second = any(a < end and offset < b for a, b in record.acked)
            raise
        record.acked.append((offset, end))

    def truncate(self, size):
        self.did.append(f"truncate {size}")
        self.attempt(resized(self.record.content, size), lambda: os.ftruncate(self.fd, size))

    def clear(self, mode):
        offset, length = self.range()
        self.did.append(f"clear {mode} {offset}-{offset + length}")
        after = with_range(self.record.content, offset, bytes(length), bool(mode & KEEP_SIZE))
        self.attempt(after, lambda: fallocate(self.fd, mode, offset, length))

    def sync(self):
        self.did.append("sync")
        before = bytes(self.record.content)
        os.fsync(self.fd)
        self.record.synced = before

    def map_write(self):
        """A write through a shared mapping, and msync."""
        offset, length = self.range()
        length = min(length, len(self.record.content) - offset)
        if length <= 0:
            return
        self.did.append(f"map {offset}-{offset + length}")
        data = self.data(length)
        with mmap.mmap(self.fd, len(self.record.content)) as view:
            view[offset:offset + length] = data
            view.flush()
        self.record.content[offset:offset + length] = data


class NameLoad:
    """Makes, renames and removes files in a directory of its own, and records what is there.
    `names`: content by name; `maybe`: what may be there instead after the call that was cut off."""

    def __init__(self, directory, seed):
        self.directory = pathlib.Path(directory)
        self.random = random.Random(seed)
        self.names = {}
        self.maybe = []
        self.calls = 0

    def step(self):
        self.calls += 1
        r = self.random
        kind = r.random()
        names = sorted(self.names)
        if not names or (kind < 0.45 and len(names) < 12):
            self.make(f"n{self.calls}")
        elif kind < 0.6:
            self.attempt(self.without(r.choice(names)),
                         lambda after: os.unlink(self.directory / self.gone(after)))
        elif kind < 0.8:
            self.rename(r.choice(names), f"r{self.calls}")
        elif kind < 0.9 and len(names) > 1:
            self.rename(*r.sample(names, 2))
        else:
            self.append(r.choice(names))

    def gone(self, after):
        return next(iter(set(self.names) - set(after)))

    def without(self, name):
        return {n: c for n, c in self.names.items() if n != name}

    def attempt(self, after, call):
        self.maybe = [after]
        call(after)
        self.names, self.maybe = after, []

    def make(self, name):
        data = self.random.randbytes(self.random.randrange(1, 9000))
        self.maybe = [{**self.names, name: b""}, *self.written(name, b"", data)]
        with open(self.directory / name, "wb", buffering=0) as f:
            self.names = {**self.names, name: b""}
            self.write(f, data)
        self.names, self.maybe = {**self.names, name: data}, []

    def written(self, name, before, data):
        """What a write may leave that is cut off: the kernel hands it over page by page."""
        cuts = [k for k in range(1, len(data)) if (len(before) + k) % 4096 == 0]
        return [{**self.names, name: before + data[:k]} for k in [*cuts, len(data)]]

    @staticmethod
    def write(file, data):
        if file.write(data) != len(data):  # the mount died between two pages
            raise OSError(errno.ENOTCONN, "a short write")

    def append(self, name):
        data = self.random.randbytes(self.random.randrange(1, 9000))

        before = self.names[name]
        self.maybe = self.written(name, before, data)
        with open(self.directory / name, "ab", buffering=0) as f:
            self.write(f, data)
        self.names, self.maybe = {**self.names, name: before + data}, []

    def rename(self, old, new):
        after = self.without(old)
        after[new] = self.names[old]
        self.attempt(after, lambda _: os.rename(self.directory / old, self.directory / new))

    def possible(self):
        return [self.names, *self.maybe]

    def settle(self, found):
        self.names, self.maybe = found, []


def read_names(directory):
    return {p.name: p.read_bytes() for p in sorted(pathlib.Path(directory).iterdir())}


class Workers:
    """Loads, each in a thread of its own, until the mount is gone or `stop()`."""

    def __init__(self, loads, limit=1 << 30):
        self.loads = loads
        self.limit = limit
        self.ended = threading.Event()
        self.errors = []
        self.threads = [threading.Thread(target=self.run, args=(load,)) for load in loads]
        for thread in self.threads:
            thread.start()

    def run(self, load):
        try:
            for _ in range(self.limit):
                if self.ended.is_set():
                    return
                load.step()
        except OSError as e:
            self.errors.append(e)
        except BaseException as e:  # pylint: disable=broad-except
            self.errors.append(e)
            raise

    def stop(self):
        self.ended.set()
        self.join()

    def join(self):
        for thread in self.threads:
            thread.join(120)
            if thread.is_alive():
                raise TimeoutError("a load hangs")


def counter(number):
    return struct.pack("<Q", number) * 64
