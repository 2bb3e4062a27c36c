"""What tests of writing share: a mount that is compared with its export after a flush, system calls
that Python lacks, and processes that play against each other."""

import ctypes
import errno
import os
import stat
import struct
import sys
import traceback
import unittest

import testbed
from testbed import Mount, TempTree, run, wait_for

KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE = 1, 2, 8, 16  # FALLOC_FL_*
NOREPLACE, EXCHANGE = 1, 2  # RENAME_*
AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
libc.renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p,
                           ctypes.c_uint)


def _check(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fallocate(fd, mode, offset, length):
    _check(libc.fallocate(fd, mode, offset, length))


def rename2(old, new, flags):
    _check(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def lock_record(kind, start, length):
    """struct flock."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def flush(mount):
    """Returns when the server has everything that was written on the mount before."""
    result = run(testbed.SLIPWAY, "flush", mount.path, check=False)
    if result.returncode != 0:
        raise AssertionError(f"flush: {result.stderr}")
    wait_for(lambda: mount.status()["writes"]["unsent_files"] == 0, "nothing unsent")


def snapshot(top):
    """Everything below a directory, as it is: by path what a program can see of it."""
    seen = {}
    top = os.fsencode(top)
    for directory, subdirectories, files in os.walk(top):
        for name in subdirectories + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            what = [oct(st.st_mode), st.st_ino]
            if not stat.S_ISDIR(st.st_mode):
                what += [st.st_nlink, st.st_size, st.st_mtime_ns]
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what.append(f.read())
            elif stat.S_ISLNK(st.st_mode):
                what.append(os.readlink(path))
            seen[os.path.relpath(path, top)] = what
    return seen


def in_processes(count, body):
    """Runs body(index) in processes of their own at once; what each returns, a small number from 0
    to 100. An exception in one is an error here."""
    start_reader, start_writer = os.pipe()
    children = []
    for index in range(count):
        pid = os.fork()
        if pid == 0:
            status = 101
            try:
                os.close(start_writer)
                os.read(start_reader, 1)  # until all are there
                status = body(index) or 0
            except BaseException:  # the child must not go on as the test
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(pid)
    os.close(start_reader)
    os.close(start_writer)
    results = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    if any(result not in range(101) for result in results):
        raise AssertionError(f"processes failed: {results}")
    return results


class WritingTest(unittest.TestCase):
    """One mount for all tests of a class; each has a directory of its own: self.here on the mount,
    self.there on the server."""

    options = ()

    @classmethod
    def setUpClass(cls):
        tree = TempTree()
        cls.dir = tree.__enter__()
        cls.addClassCleanup(tree.__exit__)
        cls.export = cls.dir / "export"
        cls.export.mkdir()
        cls.mount = cls.make_mount(cls.options)

    @classmethod
    def make_mount(cls, options=(), **kwargs):
        mount = Mount(f"local:{cls.export}", cls.dir,
                      [f"server_command={testbed.SLIPWAYD} session", *options], **kwargs)
        mount.__enter__()
        cls.addClassCleanup(mount.__exit__)
        return mount

    def setUp(self):
        name = self.id().rsplit(".", 1)[1][:200]
        (self.export / name).mkdir(exist_ok=True)
        self.there = self.export / name
        self.here = self.mount.path / name
        os.chdir("/")
        self.addCleanup(os.umask, os.umask(0o022))

    def flush(self):
        flush(self.mount)

    def open(self, name, flags=os.O_RDWR | os.O_CREAT, mode=0o644):
        """A descriptor that is closed with the test, unless it is before."""
        fd = os.open(self.here / name, flags, mode)
        self.addCleanup(self.close, fd)
        self.opened = getattr(self, "opened", set()) | {fd}
        return fd

    def close(self, fd):
        if fd in self.opened:
            self.opened.discard(fd)
            os.close(fd)

    def assert_errno(self, number, call, *arguments):
        with self.assertRaises(OSError) as e:
            call(*arguments)
        self.assertEqual(errno.errorcode[e.exception.errno], errno.errorcode[number])

    def assert_same_as_server(self):
        """After a flush the server has exactly what the mount shows, and showed before."""
        before = snapshot(self.here)
        self.flush()
        there = snapshot(self.there)
        self.assertEqual(sorted(before), sorted(there))
        for path in before:
            self.assert_equal_entry(path, "before the flush", before[path], there[path])
        after = snapshot(self.here)
        for path in there:
            self.assert_equal_entry(path, "after it", after.get(path), there[path])

    def assert_equal_entry(self, path, when, here, there):
        if here == there:
            return
        shown = [[w if not isinstance(w, bytes) or len(w) < 60 else f"{len(w)} bytes, first "
                  f"difference at {first_difference(here, there)}" for w in what or []]
                 for what in (here, there)]
        self.fail(f"{path} {when}: the mount has {shown[0]}, the server {shown[1]}")


def first_difference(here, there):
    if not here or not there:
        return None
    a, b = here[-1], there[-1]
    return next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))


def kill_mount(mount):
    """The process that serves the mount dies as by a crash."""
    testbed.kill_pid(mount.status()["pid"])
    wait_for(lambda: testbed.is_dead(mount.path), "the mount to be dead")
