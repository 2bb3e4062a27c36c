"""What one program does, or what is done to it, and another one that works with the same file: callers
that are killed while the server changes something, changes of names during an outage, files that were
refused or that somebody else has changed, a crash while the server copies."""

import contextlib
import ctypes
import errno
import mmap
import os
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import crashbed
import testbed
from crashbed import CrashBed
from testbed import Link, Mount, Sshd, TempTree, wait_for

MB = 1 << 20
PAGE = 4096


class Killed(unittest.TestCase):
    """A file is open and written to, as by a virtual machine, while others change its name or times."""

    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.dir = stack.enter_context(TempTree())
        stack.enter_context(crashbed.environment(XDG_STATE_HOME=self.dir / "state"))
        self.link = stack.enter_context(Link(rtt_ms=10))
        sshd = stack.enter_context(Sshd(self.dir, self.link))
        self.there = self.dir / "export"
        (self.there / "d").mkdir(parents=True)
        (self.there / "d" / "disk").write_bytes(b"o" * MB)
        os.utime(self.there / "d" / "disk", (1000, 1000))
        self.mount = stack.enter_context(
            Mount(f"server:{self.there}", self.dir, [*sshd.options(), "lease=no"], self.link))
        self.here = self.mount.path
        self.writer = os.open(self.here / "d" / "disk", os.O_RDWR)
        stack.callback(self.close_writer)
        self.write(b"first")

    def close_writer(self):
        with contextlib.suppress(OSError):  # its mount may have been killed
            os.close(self.writer)

    def write(self, content):
        """What is written arrives, in a file that has kept everything that was written before."""
        self.written = getattr(self, "written", b"") + content
        os.pwrite(self.writer, self.written, 0)
        os.fsync(self.writer)
        crashbed.sync_names(self.here)
        self.assertEqual(self.mount.status()["writes"]["conflicts"], [])

    def kill_after_change(self, call, happened):
        """Someone calls, and is killed when the server has done it but nobody here knows yet."""
        self.link.tell("rtt 2000")
        child = subprocess.Popen([sys.executable, "-c", f"import os; {call}"], cwd=self.here)
        try:
            wait_for(happened, "the server to do it", 30)
        finally:
            child.kill()
            child.wait(20)
            self.link.tell("rtt 10")

    def test_whose_caller_is_killed_after_its_change_was_made_is_no_conflict_of_the_writer(self):
        disk = self.there / "d" / "disk"
        moved = self.there / "d" / "moved"
        self.kill_after_change("os.utime('d/disk', (2000, 2000))",
                               lambda: os.stat(disk).st_mtime == 2000)
        self.write(b"after utime")
        self.kill_after_change("os.rename('d/disk', 'd/moved')", moved.exists)
        self.write(b"after rename")
        self.assertEqual(moved.read_bytes(), self.written.ljust(MB, b"o"))
        self.kill_after_change("os.open('d/new', os.O_CREAT | os.O_RDWR)",
                               (self.there / "d" / "new").exists)
        self.write(b"after create")
        self.kill_after_change("os.mkdir('d/directory')", (self.there / "d" / "directory").exists)
        self.assertEqual(sorted(os.listdir(self.here / "d")), ["directory", "moved", "new"])
        (self.here / "d" / "new").write_bytes(b"new")
        os.rmdir(self.here / "d" / "directory")
        crashbed.sync_names(self.here)
        self.assertEqual((self.there / "d" / "new").read_bytes(), b"new")
        wait_for(lambda: self.mount.status()["reads"]["open_files"] == 1, "only the writer's file to be open")
        self.kill_after_change("os.unlink('d/moved')", lambda: not moved.exists())
        self.write(b"after unlink")
        self.assertEqual(sorted(os.listdir(self.there / "d")), ["new"])

    def test_a_change_of_a_directory_that_waits_for_the_server_holds_up_no_writer_below_it(self):
        program = ("import os, sys\n"
                   "fd = os.open('d', os.O_RDONLY)\n"
                   "print(flush=True)\n"
                   "sys.stdin.readline()\n"
                   "os.fchmod(fd, 0o750)\n")
        child = subprocess.Popen([sys.executable, "-c", program], cwd=self.here,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        self.link.tell("cut")
        os.pwrite(self.writer, b"unsent", 100)
        child.stdin.write(b"\n")
        child.stdin.close()
        time.sleep(1)  # it waits in the kernel now
        wrote = threading.Thread(target=os.pwrite, args=(self.writer, b"more", 200), daemon=True)
        wrote.start()
        wrote.join(10)
        waits = child.poll() is None
        hangs = wrote.is_alive()
        child.kill()
        child.wait(10)
        child.stdout.close()
        self.link.tell("restore")
        wrote.join(60)
        self.assertTrue(waits)
        self.assertFalse(hangs, "the write waited for a change that waited for the server")
        crashbed.sync_names(self.here)
        content = (self.there / "d" / "disk").read_bytes()
        self.assertEqual((content[100:106], content[200:204]), (b"unsent", b"more"))


    def test_a_change_by_one_link_that_a_crash_cuts_off_is_no_conflict_of_who_writes_by_another(self):
        os.link(self.here / "d" / "disk", self.here / "d" / "link")
        program = ("import os, sys\n"
                   "fd = os.open('d/link', os.O_RDONLY)\n"
                   "print(flush=True)\n"
                   "sys.stdin.readline()\n"
                   "os.utime(fd, (2000, 2000))\n")
        child = subprocess.Popen([sys.executable, "-c", program], cwd=self.here,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL)
        child.stdout.readline()
        memory = mmap.mmap(self.writer, PAGE)
        self.assertEqual(memory[:5], self.written[:5])
        crashbed.sync_names(self.here)
        self.link.tell("rtt 4000")
        child.stdin.write(b"\n")
        child.stdin.close()
        wait_for(lambda: os.stat(self.there / "d" / "disk").st_mtime == 2000, "the server to do it", 30)
        # The kernel makes calls wait for the file's lock, but not what it writes back of a mapping.
        memory[:6] = b"mapped"
        write_only = 2
        ctypes.CDLL(None).sync_file_range(self.writer, ctypes.c_int64(0), ctypes.c_int64(PAGE), write_only)
        time.sleep(0.5)  # it comes to the mount
        testbed.kill_pid(self.mount.status()["pid"])
        child.wait(30)
        child.stdout.close()
        memory.close()
        self.link.tell("rtt 10")
        self.mount.__enter__()
        crashbed.sync_names(self.here)
        self.assertEqual(self.mount.status()["writes"]["conflicts"], [])
        self.assertEqual(sorted(os.listdir(self.there / "d")), ["disk", "link"])


class Changed(CrashBed):
    FILES = ()

    def setUp(self):
        super().setUp()
        self.image = self.export / "a/img"
        self.image.write_bytes(b"A" * 8 * MB)
        os.utime(self.image, (1000, 1000))

    def change_there(self):
        with open(self.image, "r+b") as f:
            f.write(b"B" * 8 * MB)
        os.utime(self.image, (2000, 2000))

    def open_until_fresh(self, path, flags):
        def opened():
            try:
                self.fresh = os.open(path, flags)
            except OSError as e:
                self.assertEqual(e.errno, errno.ESTALE)
                return False
            return True
        wait_for(opened, "the changed file to be found")
        self.addCleanup(os.close, self.fresh)
        return self.fresh

    def assert_old_or_stale(self, fd, offset):
        try:
            self.assertEqual(os.pread(fd, PAGE, offset), b"A" * PAGE, f"at {offset}")
        except OSError as e:
            self.assertEqual(e.errno, errno.ESTALE)

    def test_who_reads_an_image_s_old_version_gets_nothing_of_what_is_written_to_the_new_one(self):
        m = self.mount("lease=no")
        path = m.path / "a/img"
        old = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, old)
        self.assertEqual(os.pread(old, PAGE, 0), b"A" * PAGE)
        self.change_there()
        writer = self.open_until_fresh(path, os.O_RDWR)
        self.assertEqual(os.pread(writer, PAGE, 0), b"B" * PAGE)
        os.pwrite(writer, b"C" * PAGE, 5 * MB)
        for offset in (0, 5 * MB):
            self.assert_old_or_stale(old, offset)  # unsent
        crashbed.sync_names(m.path)
        for offset in (0, 5 * MB, 6 * MB, 7 * MB):
            self.assert_old_or_stale(old, offset)  # sent
        self.assertEqual(os.pread(writer, PAGE, 5 * MB), b"C" * PAGE)
        self.assertEqual(os.pread(writer, PAGE, 6 * MB), b"B" * PAGE)

    def test_a_refused_file_that_can_not_be_kept_is_read_as_it_is_on_the_server(self):
        m = self.mount("lease=no")
        path = m.path / "a/img"
        writer = os.open(path, os.O_RDWR)
        os.pread(writer, 10, 0)
        self.change_there()
        (m.cache / "refused").write_text("a file where the directory should be")
        flush = threading.Thread(target=crashbed.sync_names, args=(m.path,))
        with testbed.stopped_server(m):
            os.pwrite(writer, b"1" * PAGE, 0)
            flush.start()
            time.sleep(1)  # the checkpoint is closed: what comes now is not in the conflict copy
            os.pwrite(writer, b"2" * PAGE, 2 * PAGE)
        flush.join(60)
        wait_for(lambda: m.status()["writes"]["conflicts"], "the conflict")
        for call in (lambda: os.pread(writer, PAGE, MB), lambda: os.fsync(writer)):
            with self.assertRaises(OSError) as e:
                call()
            self.assertEqual(e.exception.errno, errno.ESTALE)
        with contextlib.suppress(OSError):
            os.close(writer)
        reader = subprocess.run(["head", "-c3", path], stdout=subprocess.PIPE, timeout=60)
        self.assertEqual(reader.stdout, b"BBB")
        self.assertEqual(os.stat(path).st_mtime, 2000)
        (m.cache / "refused").unlink()
        wait_for(lambda: m.status()["writes"]["unsent_files"] == 0, "the rest to be kept", 60)

    def test_a_crash_while_the_cache_follows_a_copy_leaves_nothing_of_what_was_there(self):
        source = self.export / "a/source"
        source.write_bytes(b"S" * 16 * MB)
        os.utime(source, (1000, 1000))
        for number in (1, 3, 6):  # of four regions of the cache, each dropped twice
            with self.subTest(number=number):
                self.image.write_bytes(b"A" * 20 * MB)
                os.utime(self.image, (1000, 1000))
                self.copy_until(f"copy-dropped@{number}", number)

    def copy_until(self, point, number):
        m = self.mount("lease=no", fault=point, name=f"mnt{number}", cache=f"cache{number}")
        pid = m.status()["pid"]
        (m.path / "a/img").read_bytes()
        time.sleep(1)  # the cache has stored it
        with open(m.path / "a/source", "rb", buffering=0) as f, \
             open(m.path / "a/img", "r+b", buffering=0) as to:
            with contextlib.suppress(OSError):
                os.copy_file_range(f.fileno(), to.fileno(), 16 * MB, 0, 0)
            wait_for(lambda: crashbed.has_ended(pid), "the fault point to be reached", 30)
        self.assertEqual(self.image.read_bytes(), b"S" * 16 * MB + b"A" * 4 * MB)
        time.sleep(3)  # a file that has changed a moment ago would be compared with the server's
        m.__enter__()
        content = (m.path / "a/img").read_bytes()
        m.umount()
        self.assertEqual([content[i:i + 1] for i in range(0, 20 * MB, MB)], [b"S"] * 16 + [b"A"] * 4)


class Unprivileged(CrashBed):
    FILES = ()

    def test_read_only_files_are_made_beside_others_whose_times_change(self):
        os.chmod(self.dir, 0o777)
        for path in (self.export, *self.export.rglob("*")):
            os.chown(path, 65534, 65534)
        (self.dir / "state").mkdir()
        os.chmod(self.dir / "state", 0o777)
        script = crashbed.server_script(
            self.dir, "setpriv --reuid=65534 --regid=65534 --clear-groups")
        m = Mount(f"local:{self.export}", self.dir, [f"server_command={script}"])
        m.__enter__()
        self.addCleanup(m.__exit__)
        touch = ("import os, sys, itertools\n"
                 "open(sys.argv[1], 'w').write('x')\n"
                 "for n in itertools.count(1000):\n"
                 "    os.utime(sys.argv[1], (n, n))\n")
        others = [subprocess.Popen([sys.executable, "-c", touch, m.path / f"b/touched{n}"])
                  for n in range(3)]
        try:
            wait_for(lambda: all((m.path / f"b/touched{n}").exists() for n in range(3)), "the others")
            for n in range(1000):
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                os.close(os.open(m.path / f"a/{n}", flags, 0o444))
        finally:
            for each in others:
                each.kill()
                each.wait(20)


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
