"""Names that are made in the write log, under the group's lease: what they are on this mount at once,
what the server gets to know of them and when, and what crashes, conflicts and other mounts do to them."""

import contextlib
import errno
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import crashbed
import testbed
from crashbed import CrashBed, has_ended
from testbed import drop_caches, run, stopped_server, wait_for
from writing import NOREPLACE, WritingTest, rename2, snapshot


def names(directory):
    return sorted(os.listdir(directory))


class MadeNames(WritingTest):

    def setUp(self):
        super().setUp()
        self.flush()

    def test_what_is_made_here_goes_to_the_server_with_a_checkpoint(self):
        with away(self.mount, self.here / "new") as new:
            os.mkdir(new / "vm")
            (new / "vm/config").write_bytes(b"memory = 1\n")
            (new / "empty").touch()
            os.mkdir(new / "vm/snapshots", 0o750)
            made = snapshot(new)
            self.assertEqual(sorted(made), [b"empty", b"ready", b"vm", b"vm/config", b"vm/snapshots"])
            self.assertEqual(names(self.there), [])
        self.assert_same_as_server()
        # They are what they were before, now that the server has them.
        after = snapshot(self.here / "new")
        for path in made:
            self.assertEqual(made[path][:2], after[path][:2], path)
        (self.here / "new/vm/config").write_bytes(b"memory = 2\n")
        self.assert_same_as_server()

    def test_a_lock_that_is_taken_and_given_back_leaves_no_trace(self):
        (self.here / "vm.vmx").touch()
        self.flush()
        before = os.stat(self.there)
        checkpoints = self.mount.status()["writes"]["checkpoints"]
        for _ in range(3):
            lock = self.here / "vm.vmx.lck"
            os.mkdir(lock)
            os.mkdir(lock / "D1.lck")
            fd = os.open(lock / "E1.lck", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            os.write(fd, b"x" * 512)
            os.close(fd)
            self.assertEqual(names(lock), ["D1.lck", "E1.lck"])
            os.rename(lock / "E1.lck", lock / "M1.lck")
            os.rmdir(lock / "D1.lck")
            self.assertEqual(names(lock), ["M1.lck"])
            self.assertEqual((lock / "M1.lck").read_bytes(), b"x" * 512)
            self.assert_errno(errno.ENOTEMPTY, os.rmdir, lock)
            os.unlink(lock / "M1.lck")
            os.rmdir(lock)
            self.assertEqual(names(self.here), ["vm.vmx"])
        self.flush()
        self.assertEqual(self.mount.status()["writes"]["checkpoints"], checkpoints)
        self.assertEqual(os.stat(self.there).st_mtime_ns, before.st_mtime_ns)

    def test_listings_have_every_name_once_while_the_server_gets_to_know_them(self):
        wanted = [f"name-{i:04}" for i in range(600)]
        for i, name in enumerate(wanted):
            if i % 200 == 0:
                subprocess.Popen([testbed.SLIPWAY, "flush", self.mount.path],
                                 stderr=subprocess.DEVNULL).wait()
            if i % 3 == 0:
                os.mkdir(self.here / name)
            else:
                (self.here / name).touch()
            if i % 50 == 0:
                self.assertEqual(names(self.here), wanted[:i + 1])
        flushing = subprocess.Popen([testbed.SLIPWAY, "flush", self.mount.path],
                                    stderr=subprocess.DEVNULL)
        listings = 0
        while flushing.poll() is None or listings < 3:
            self.assertEqual(names(self.here), wanted)
            listings += 1
        self.assertEqual(names(self.there), wanted)
        self.assert_same_as_server()

    def test_names_are_renamed_and_replaced_before_the_server_has_them(self):
        (self.here / "theirs").write_bytes(b"the server's")
        self.flush()
        (self.here / "new").write_bytes(b"new")
        (self.here / "disk").write_bytes(b"first")
        fd = self.open("new", os.O_RDWR)
        self.assert_errno(errno.EEXIST, rename2, self.here / "new", self.here / "disk", NOREPLACE)
        os.rename(self.here / "new", self.here / "disk")
        self.assertEqual((self.here / "disk").read_bytes(), b"new")
        os.pwrite(fd, b"NEW!", 0)
        self.assertEqual((self.here / "disk").read_bytes(), b"NEW!")
        self.assertFalse((self.here / "new").exists())
        # Onto a name of the server's, and one of a directory that is new itself.
        os.mkdir(self.here / "dir")
        os.rename(self.here / "disk", self.here / "dir/disk")
        (self.here / "over").write_bytes(b"over")
        self.assert_errno(errno.EEXIST, rename2, self.here / "over", self.here / "theirs", NOREPLACE)
        os.rename(self.here / "over", self.here / "theirs")
        self.assertEqual((self.there / "theirs").read_bytes(), b"over")  # that, the server does
        os.mkdir(self.here / "full")
        (self.here / "full/file").touch()
        self.assert_errno(errno.ENOTEMPTY, os.rename, self.here / "dir", self.here / "full")
        self.assert_errno(errno.ENOTDIR, os.rename, self.here / "dir", self.here / "full/file")
        self.assert_errno(errno.EISDIR, os.rename, self.here / "full/file", self.here / "dir")
        os.rename(self.here / "full", self.here / "moved")
        os.pwrite(fd, b"last", 0)
        self.assertEqual(names(self.here), ["dir", "moved", "theirs"])
        self.assert_same_as_server()
        self.assertEqual((self.there / "dir/disk").read_bytes(), b"last")

    def test_errors_are_those_of_a_local_file_system(self):
        (self.here / "file").touch()
        os.mkdir(self.here / "dir")
        self.assert_errno(errno.EEXIST, os.mkdir, self.here / "dir")
        self.assert_errno(errno.EEXIST, os.mkdir, self.here / "file")
        self.assert_errno(errno.EEXIST, os.open, self.here / "file", os.O_CREAT | os.O_EXCL)
        self.assert_errno(errno.ENOTDIR, os.rmdir, self.here / "file")
        self.assert_errno(errno.EISDIR, os.unlink, self.here / "dir")
        self.assert_errno(errno.ENOENT, os.unlink, self.here / "dir/none")
        self.assert_errno(errno.ENOENT, os.rename, self.here / "dir/none", self.here / "other")
        self.assert_errno(errno.ENOTDIR, os.open, self.here / "file/below", os.O_CREAT)
        self.assertEqual(self.mount.status()["writes"]["unsent_files"], 2)
        self.assert_same_as_server()

    def test_a_file_stays_open_while_the_server_gets_to_know_it(self):
        fd = self.open("disk")
        content = os.urandom(5_000_000)
        os.pwrite(fd, content, 0)
        reader = self.open("disk", os.O_RDONLY)
        self.flush()
        self.assertEqual((self.there / "disk").read_bytes(), content)
        os.pwrite(fd, b"more", 1_000_000)
        content = content[:1_000_000] + b"more" + content[1_000_004:]
        self.assertEqual(os.pread(reader, len(content), 0), content)
        self.flush()
        drop_caches()
        run(testbed.SLIPWAY, "invalidate", self.mount.path)
        for of in (fd, reader):
            self.assertEqual(os.pread(of, len(content), 0), content)
        os.ftruncate(fd, 7)
        self.flush()
        self.assertEqual((self.there / "disk").read_bytes(), content[:7])

    def test_a_file_that_is_open_goes_on_without_its_name(self):
        with away(self.mount, self.here / "new") as new:
            for how in ("unlink", "rename"):
                fd = self.open(new / "disk")
                os.write(fd, b"kept")
                reader = self.open(new / "disk", os.O_RDONLY)
                if how == "unlink":
                    os.unlink(new / "disk")
                else:
                    (new / "other").write_bytes(b"other")
                    os.rename(new / "other", new / "disk")
                self.close(self.open(new / "third"))
                for of in (fd, reader):
                    self.assertEqual(os.pread(of, 10, 0), b"kept")
                    self.assertEqual(os.fstat(of).st_size, 4)
                os.write(fd, b" on")
                os.fchmod(fd, 0o600)
                os.fsync(fd)
                self.assertEqual(os.pread(reader, 10, 0), b"kept on")
                os.ftruncate(fd, 2)
                self.assertEqual(os.pread(reader, 10, 0), b"ke")
                self.assertEqual(os.fstat(fd).st_nlink, 0)
                self.close(fd)
                self.assertEqual(os.pread(reader, 10, 0), b"ke")
                self.close(reader)
            self.assertEqual((new / "disk").read_bytes(), b"other")
        self.assert_same_as_server()
        self.assertEqual(self.mount.status()["writes"]["unsent_bytes"], 0)
        self.assertEqual(names(self.there / "new"), ["disk", "ready", "third"])

    def test_where_a_prepared_inode_would_differ_the_server_makes_the_name(self):
        os.mkdir(self.there / "group")
        os.chmod(self.there / "group", 0o2775)
        os.mkdir(self.there / "other-fs")
        run("mount", "-t", "tmpfs", "tmpfs", self.there / "other-fs")
        self.addCleanup(run, "umount", self.there / "other-fs")
        for where in ("group", "other-fs"):
            (self.here / where / "file").touch()
            os.mkdir(self.here / where / "dir")
            self.assertEqual(names(self.there / where), ["dir", "file"], where)
        self.assertTrue(os.stat(self.there / "group/dir").st_mode & stat.S_ISGID)
        for mode in (0o444, 0o200, 0o4755):
            os.close(os.open(self.here / f"mode-{mode:o}", os.O_CREAT | os.O_WRONLY, mode))
            self.assertEqual(stat.S_IMODE(os.stat(self.there / f"mode-{mode:o}").st_mode), mode)
        os.mkdir(self.here / "closed", 0o500)
        self.assertTrue((self.there / "closed").is_dir())
        os.symlink("target", self.here / "link")
        self.assertEqual(os.readlink(self.there / "link"), "target")

    def test_modes_times_and_links_of_a_new_file_are_the_servers_to_change(self):
        (self.here / "file").write_bytes(b"content")
        os.chmod(self.here / "file", 0o600)
        os.utime(self.here / "file", ns=(1_000_000_001, 2_000_000_002))
        os.link(self.here / "file", self.here / "link")
        self.assertEqual(os.stat(self.there / "link").st_mtime_ns, 2_000_000_002)
        os.mkdir(self.here / "dir")
        os.chmod(self.here / "dir", 0o711)
        self.assertEqual(stat.S_IMODE(os.stat(self.there / "dir").st_mode), 0o711)
        self.assert_same_as_server()

    def test_more_names_than_one_checkpoint_takes(self):
        os.mkdir(self.here / "many")
        for i in range(1500):
            if i % 100 == 0:
                os.mkdir(self.here / f"many/{i // 100}")
            (self.here / f"many/{i // 100}/{i}").write_bytes(b"%d" % i)
        self.assert_same_as_server()


@contextlib.contextmanager
def away(mount, directory):
    """Makes a directory. Within this the server answers nothing, and the directory, by the path that comes,
    is reached without asking it; there are inodes in stock."""
    os.mkdir(directory)
    (directory / "ready").touch()
    fd = os.open(directory, os.O_PATH)
    try:
        with stopped_server(mount):
            yield pathlib.Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


class NamesThrough(WritingTest):
    options = ("names=through",)

    def test_with_names_through_the_server_makes_each_name_before_the_call_returns(self):
        os.mkdir(self.here / "dir")
        (self.here / "dir/file").touch()
        self.assertEqual(names(self.there / "dir"), ["file"])
        os.unlink(self.here / "dir/file")
        self.assertEqual(names(self.there / "dir"), [])


class MadeNamesAndCrashes(CrashBed):
    FILES = ()

    def test_names_survive_a_crash_of_the_client_in_their_order(self):
        m = self.mount()
        with away(m, m.path / "a/vm") as vm:
            os.mkdir(vm / "lck")
            (vm / "lck/lock").write_bytes(b"mine")
            os.rename(vm / "lck/lock", vm / "lck/locked")
            (vm / "gone").write_bytes(b"gone")
            os.unlink(vm / "gone")
            (vm / "disk").write_bytes(b"old")
            (vm / "disk.tmp").write_bytes(b"new content")
            os.rename(vm / "disk.tmp", vm / "disk")
            before = snapshot(vm)
            self.assertEqual(names(self.export / "a"), [])
            self.assertGreaterEqual(m.status()["writes"]["unsent_files"], 5)
            pid = m.status()["pid"]
            testbed.kill_pid(pid)
            wait_for(lambda: testbed.is_dead(m.path), "the mount to be dead")
        run(testbed.SLIPWAY, "umount", m.path, check=False)
        again = self.mount()
        after = snapshot(again.path / "a/vm")
        self.assertEqual(sorted(before), sorted(after))
        for path in before:
            self.assertEqual(before[path], after[path], path)
        crashbed.sync_names(again.path)
        there = snapshot(self.export / "a/vm")
        for path in before:
            self.assertEqual(before[path], there[path], path)
        self.assertEqual(sorted(before), sorted(there))

    def test_recover_sends_names_of_a_cache_whose_mount_is_gone(self):
        m = self.mount()
        with away(m, m.path / "a/vm") as vm:
            (vm / "disk").write_bytes(b"unsent")
            testbed.kill_pid(m.status()["pid"])
            wait_for(lambda: testbed.is_dead(m.path), "the mount to be dead")
        run(testbed.SLIPWAY, "umount", m.path, check=False)
        self.assertEqual(names(self.export / "a"), [])
        done = run(testbed.SLIPWAY, "recover", m.cache, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.export / "a/vm/disk").read_bytes(), b"unsent")

    def test_a_server_that_dies_while_it_places_names_places_each_once(self):
        for fault in ("checkpoint-before-record", "checkpoint-after-record", "checkpoint-before-makes",
                      "checkpoint-between-makes", "checkpoint-after-makes",
                      "checkpoint-between-files", "checkpoint-before-directories",
                      "checkpoint-after-unlink"):
            with self.subTest(fault=fault):
                self.arm_server(fault)
                m = self.mount(name="m-" + fault, cache="c-" + fault)
                top = m.path / "a" / fault
                os.mkdir(top)
                for i in range(3):
                    os.mkdir(top / f"dir{i}")
                    (top / f"dir{i}/file").write_bytes(b"%d" % i * 1000)
                    (top / f"dir{i}/empty").touch()
                before = snapshot(top)
                servers = set(testbed.server_processes(m.status()["pid"]))
                crashbed.sync_names(m.path)
                self.assertTrue(any(map(has_ended, servers)), "the server did not come to " + fault)
                there = snapshot(self.export / "a" / fault)
                self.assertEqual(before, there)
                self.assertEqual(snapshot(top), there)
                self.assertEqual(list(self.export.rglob("*.conflict-*")), [])
                m.umount()

    def test_a_name_that_was_taken_meanwhile_is_a_conflict(self):
        m = self.mount()
        with away(m, m.path / "a/vm") as vm:
            (vm / "disk").write_bytes(b"mine")
            os.mkdir(vm / "dir")
            (vm / "dir/file").write_bytes(b"in it")
            os.mkdir(vm / "other")
            (vm / "other/file").write_bytes(b"lost?")
            os.mkdir(self.export / "a/vm")
            (self.export / "a/vm/disk").write_bytes(b"theirs")
            os.mkdir(self.export / "a/vm/dir")
            (self.export / "a/vm/other").write_bytes(b"a file")
        done = run(testbed.SLIPWAY, "flush", m.path, check=False)
        self.assertEqual(done.returncode, 34, done.stderr)
        self.assertEqual((self.export / "a/vm/disk").read_bytes(), b"theirs")
        (copy,) = (self.export / "a/vm").glob("disk.conflict-*")
        self.assertEqual(copy.read_bytes(), b"mine")
        self.assertEqual((self.export / "a/vm/dir/file").read_bytes(), b"in it")
        self.assertEqual((self.export / "a/vm/other").read_bytes(), b"a file")
        kept = [p.read_bytes() for p in m.cache.glob("refused/*")]
        self.assertIn(b"lost?", kept)
        lines = m.status()["writes"]["conflicts"]
        for name in ("a/vm/disk", "a/vm/other", "a/vm/other/file"):
            self.assertTrue(any(f"'{name}'" in line for line in lines), (name, lines))
        self.assertEqual((m.path / "a/vm/disk").read_bytes(), b"theirs")
        self.assertEqual((m.path / "a/vm/other").read_bytes(), b"a file")
        (m.path / "a/vm/dir/second").write_bytes(b"goes on")
        crashbed.sync_names(m.path)
        self.assertEqual((self.export / "a/vm/dir/second").read_bytes(), b"goes on")

    def test_another_mount_that_wants_the_group_gets_to_know_its_names_first(self):
        one = self.mount(cache="cache-1", name="one")
        two = self.mount(cache="cache-2", name="two")
        os.mkdir(one.path / "a/lck")
        with self.assertRaises(FileExistsError):
            os.mkdir(two.path / "a/lck")
        (one.path / "a/lck/first").touch()
        (two.path / "a/lck/second").touch()
        self.assertEqual(names(two.path / "a/lck"), ["first", "second"])

    def test_losing_the_cache_leaves_names_and_content_of_one_instant(self):
        m = self.mount()
        top = m.path / "a/vm"
        os.mkdir(top)
        crashbed.sync_names(m.path)
        for i in range(1, 40):
            (top / f"{i}.first").write_bytes(b"%d" % i)
            (top / f"{i}.second").write_bytes(b"%d" % i)
            if i == 20:
                crashbed.sync_names(m.path)
        testbed.kill_pid(m.status()["pid"])
        wait_for(lambda: testbed.is_dead(m.path), "the mount to be dead")
        run(testbed.SLIPWAY, "umount", m.path, check=False)
        shutil.rmtree(m.cache)
        seen = names(self.export / "a/vm")
        count = len(list((self.export / "a/vm").glob("*.first")))
        self.assertGreaterEqual(count, 20)
        for i in range(1, count + 1):
            self.assertEqual((self.export / f"a/vm/{i}.first").read_bytes(), b"%d" % i)
            if i < count:  # the last pair may be cut between its two
                self.assertEqual((self.export / f"a/vm/{i}.second").read_bytes(), b"%d" % i)
        self.assertIn(len(seen), (2 * count, 2 * count - 1))


class MadeNamesAmongOthers(CrashBed):
    """What else happens at the same time, or was there before."""

    FILES = ()

    def test_the_first_names_of_a_mount_are_made_by_many_at_once(self):
        for group in range(8):
            (self.export / f"a/{group}").mkdir()
        for turn in range(3):  # with a cache that was used before, whose inodes are tidied away
            m = self.mount(name=f"mnt-{turn}")
            start = threading.Barrier(8)

            def make(group):
                start.wait()
                for i in range(3):
                    (m.path / f"a/{group}/{turn}-{i}").write_bytes(b"%d" % group)
                os.mkdir(m.path / f"a/{group}/dir-{turn}")

            threads = [threading.Thread(target=make, args=(group,)) for group in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(run(testbed.SLIPWAY, "flush", m.path, check=False).returncode, 0)
            for group in range(8):
                self.assertEqual((self.export / f"a/{group}/{turn}-2").read_bytes(), b"%d" % group)
            m.umount()

    def test_an_inode_number_that_comes_again_is_another_file(self):
        m = self.mount()
        for turn in range(4):
            for i in range(15):
                (m.path / f"a/{turn}-{i}").write_bytes(b"lock")
            crashbed.sync_names(m.path)
            for i in range(15):
                os.close(os.open(m.path / f"a/{turn}-{i}", os.O_RDWR))
                os.unlink(m.path / f"a/{turn}-{i}")

    def test_a_file_without_a_name_keeps_nothing_of_the_write_log(self):
        m = self.mount("log_size=64M", "log_wait=5")
        fd = os.open(m.path / "a/removed", os.O_CREAT | os.O_RDWR)
        os.write(fd, b"tiny")
        os.unlink(m.path / "a/removed")
        with open(m.path / "a/disk", "wb", buffering=0) as disk:
            for i in range(100):
                disk.write(os.urandom(1 << 20))
                os.pwrite(fd, os.urandom(1 << 20), 100)
        self.assertEqual(os.pread(fd, 4, 0), b"tiny")
        self.assertEqual(os.fstat(fd).st_size, (1 << 20) + 100)
        os.close(fd)

    def test_long_paths_go_in_as_many_checkpoints_as_they_need(self):
        m = self.mount()
        fd = os.open(m.path / "a", os.O_RDONLY)
        for _ in range(6):
            os.mkdir("d" * 240, dir_fd=fd)
            below = os.open("d" * 240, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        for i in range(200):
            os.close(os.open(f"{i}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
        crashbed.sync_names(m.path)
        self.assertEqual(sum(len(files) for _, _, files in os.walk(self.export / "a")), 200)

    def test_what_was_made_before_its_directory_is_there_while_the_server_gets_to_know_both(self):
        m = self.mount()
        for turn in range(4):
            top = m.path / f"a/{turn}"
            os.mkdir(top)
            crashbed.sync_names(m.path)
            (top / "early").write_bytes(b"content")
            opened = [os.open(top / f"{i}", os.O_CREAT | os.O_RDWR) for i in range(40)]
            os.mkdir(top / "late")
            os.rename(top / "early", top / "late/early")
            over, wrong = threading.Event(), []

            def look():
                while not over.is_set():
                    try:
                        if os.listdir(top / "late") != ["early"]:
                            wrong.append("a listing without it")
                        if (top / "late/early").read_bytes() != b"content":
                            wrong.append("other content")
                    except OSError as e:
                        wrong.append(str(e))

            readers = [threading.Thread(target=look) for _ in range(2)]
            for reader in readers:
                reader.start()
            crashbed.sync_names(m.path)
            over.set()
            for reader in readers:
                reader.join()
            for fd in opened:
                os.close(fd)
            self.assertEqual(wrong[:3], [])

    def test_locks_without_number_take_no_inodes_of_the_server(self):
        m = self.mount()
        prepared = []
        for turn in range(200):
            os.mkdir(m.path / "a/lck")
            os.close(os.open(m.path / "a/lck/file", os.O_CREAT | os.O_WRONLY))
            os.unlink(m.path / "a/lck/file")
            os.rmdir(m.path / "a/lck")
        for directory in self.dir.rglob("prepared"):
            prepared += os.listdir(directory)
        self.assertGreater(len(prepared), 0)
        self.assertLess(len(prepared), 100)


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
