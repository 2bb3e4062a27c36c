"""Two mounts that write to the same files, files that change or go behind a mount's back, a server's
disk and a write log that are full: nobody's data is lost, and nobody gets an I/O error."""

import contextlib
import errno
import os
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import crashbed
import load
import testbed
from crashbed import CrashBed
from testbed import drop_caches, run

SIZE = 300_000
CONFLICT = 34  # exit code: kept apart


class Conflicts(CrashBed):
    FILES = ()

    def setUp(self):
        super().setUp()
        for name in ("a/disk", "a/other"):
            (self.export / name).write_bytes(b"o" * SIZE)
            os.utime(self.export / name, (1000, 1000))

    def copies(self):
        return sorted(self.export.rglob("*.conflict-*"))

    def refused(self, mount):
        return sorted(mount.cache.glob("refused/*"))

    def conflicts(self, mount):
        return mount.status()["writes"]["conflicts"]

    def test_of_two_hosts_that_write_to_one_file_the_later_ones_writes_are_in_a_copy(self):
        one = self.mount("lease=no", cache="cache-1", name="one")
        two = self.mount("lease=no", cache="cache-2", name="two")
        with open(one.path / "a/disk", "r+b", buffering=0) as first, \
             open(two.path / "a/disk", "r+b", buffering=0) as second, \
             open(two.path / "a/other", "r+b", buffering=0) as other:
            first.write(b"first")
            second.seek(100_000)
            second.write(b"second")
            other.write(b"other")
            crashbed.sync_names(one.path)
            crashbed.sync_names(two.path)
            self.assertEqual((self.export / "a/disk").read_bytes(),
                             b"first".ljust(SIZE, b"o"))
            self.assertEqual((self.export / "a/other").read_bytes(), b"other".ljust(SIZE, b"o"))
            (copy,) = self.copies()
            # What was changed meanwhile is in it too: the copy is of the file as it was found.
            self.assertEqual(copy.read_bytes(),
                             load.with_range(b"first".ljust(SIZE, b"o"), 100_000, b"second"))
            (line,) = self.conflicts(two)
            self.assertIn("a/disk", line)
            self.assertIn(copy.name, line)
            self.assertEqual(self.conflicts(one), [])
            with self.assertRaises(OSError) as e:
                second.write(b"more")
            self.assertEqual(e.exception.errno, errno.ESTALE)
            other.write(b"more")
        self.assertEqual((two.path / "a/disk").read_bytes(), (self.export / "a/disk").read_bytes())
        with open(two.path / "a/disk", "r+b", buffering=0) as again:
            again.write(b"again")
        crashbed.sync_names(two.path)
        self.assertEqual((self.export / "a/disk").read_bytes()[:5], b"again")
        self.assertEqual((self.export / "a/other").read_bytes()[:9], b"othermore")
        self.assertEqual(self.copies(), [copy])

    def test_writes_that_come_while_a_conflict_is_found_are_kept_beside_the_cache(self):
        m = self.mount()
        with open(m.path / "a/disk", "r+b", buffering=0) as f:
            f.write(b"mine")
            with open(self.export / "a/disk", "r+b") as there:
                there.write(b"theirs")
            flush = threading.Thread(target=crashbed.sync_names, args=(m.path,))
            written = []
            flush.start()
            try:
                for n in range(1, 100_000):
                    os.pwrite(f.fileno(), load.counter(n)[:8], 8 * n)
                    written.append(n)
            except OSError as e:
                self.assertEqual(e.errno, errno.ESTALE)
            else:
                self.fail("writes go on to a file that is refused")
            flush.join()
        self.assertEqual((self.export / "a/disk").read_bytes(), b"theirs".ljust(SIZE, b"o"))
        kept = [p.read_bytes() for p in (*self.copies(), *self.refused(m))]
        self.assertTrue(any(content[:4] == b"mine" for content in kept))
        for n in written:
            self.assertTrue(any(content[8 * n:8 * n + 8] == load.counter(n)[:8]
                                for content in kept), f"write {n} of {len(written)} is lost")
        crashbed.sync_names(m.path)

    def test_a_file_that_goes_behind_a_mounts_back_leaves_a_copy(self):
        m = self.mount()
        with open(m.path / "a/disk", "r+b", buffering=0) as f, \
             open(m.path / "a/other", "r+b", buffering=0) as other:
            f.write(b"mine")
            other.write(b"other")
            os.unlink(self.export / "a/disk")
            crashbed.sync_names(m.path)
        found = [p.read_bytes()[:4] for p in (*self.copies(), *self.refused(m),
                                              *self.export.glob("a/disk"))]
        self.assertIn(b"mine", found)
        self.assertGreaterEqual(len(self.conflicts(m)), 1)
        self.assertEqual((self.export / "a/other").read_bytes()[:5], b"other")
        self.assertEqual(m.status()["writes"]["unsent_files"], 0)

    def test_a_replaced_file_is_not_written_to(self):
        m = self.mount()
        with open(m.path / "a/disk", "r+b", buffering=0) as f:
            f.write(b"mine")
            (self.export / "a/new").write_bytes(b"new")
            os.rename(self.export / "a/new", self.export / "a/disk")
            crashbed.sync_names(m.path)
        self.assertEqual((self.export / "a/disk").read_bytes(), b"new")
        self.assertEqual([p.read_bytes()[:4] for p in (*self.copies(), *self.refused(m))], [b"mine"])
        self.assertEqual((m.path / "a/disk").read_bytes(), b"new")

    def test_a_crash_while_a_conflict_is_settled_loses_nothing(self):
        for point in ("writeback-committed", "writeback-cached", "writeback-applied",
                      "writeback-before-trim"):
            with self.subTest(point=point):
                for name in ("a/disk", "a/other"):
                    (self.export / name).write_bytes(b"o" * SIZE)
                for copy in self.copies():
                    copy.unlink()
                m = self.mount(fault=point)
                pid = m.status()["pid"]
                with open(m.path / "a/disk", "r+b", buffering=0) as f, \
                     open(m.path / "a/other", "r+b", buffering=0) as other:
                    f.write(b"mine")
                    other.write(b"other")
                    with open(self.export / "a/disk", "r+b") as there:
                        there.write(b"theirs")
                    with self.assertRaises(OSError):
                        crashbed.sync_names(m.path)
                        time.sleep(0.5)
                        crashbed.sync_names(m.path)
                self.wait_dead(m, pid)
                m.__enter__()
                crashbed.sync_names(m.path)
                self.assertEqual(m.status()["writes"]["unsent_files"], 0)
                self.assertIn(b"mine", [p.read_bytes()[:4] for p in self.copies()])
                self.assertEqual((self.export / "a/disk").read_bytes()[:6], b"theirs")
                self.assertEqual((self.export / "a/other").read_bytes()[:5], b"other")
                m.umount(check=False)  # it says that there were conflicts

    def test_a_users_file_that_can_not_be_written_any_more_keeps_its_writes(self):
        """Root may write everywhere, so the file is made immutable."""
        if run("chattr", "+i", self.export / "a/disk", check=False).returncode != 0:
            self.skipTest("no immutable files here")
        run("chattr", "-i", self.export / "a/disk")
        m = self.mount()
        with open(m.path / "a/disk", "r+b", buffering=0) as f, \
             open(m.path / "a/other", "r+b", buffering=0) as other:
            f.write(b"mine")
            other.write(b"other")
            run("chattr", "+i", self.export / "a/disk")
            try:
                crashbed.sync_names(m.path)
            finally:
                run("chattr", "-i", self.export / "a/disk")
        kept = [p.read_bytes()[:4] for p in (*self.copies(), *self.refused(m),
                                             self.export / "a/disk")]
        self.assertIn(b"mine", kept)
        self.assertEqual((self.export / "a/other").read_bytes()[:5], b"other")

    def test_a_second_open_does_not_hide_a_conflict_from_who_had_the_file_open_before(self):
        m = self.mount("lease=no")
        with open(m.path / "a/disk", "r+b", buffering=0) as first:
            with open(self.export / "a/disk", "r+b") as there:
                there.write(b"theirs")
            testbed.wait_for(lambda: (m.path / "a/disk").read_bytes()[:6] == b"theirs", "the change")
            with open(m.path / "a/disk", "r+b", buffering=0) as second:
                with self.assertRaises(OSError) as e:
                    first.write(b"mine")
                    os.fsync(first.fileno())
                self.assertEqual(e.exception.errno, errno.ESTALE)
                os.pwrite(second.fileno(), b"known", 10)
                os.fsync(second.fileno())
        crashbed.sync_names(m.path)
        self.assertEqual((self.export / "a/disk").read_bytes()[:15], b"theirsooooknown")
        self.assertEqual(self.copies(), [])

    def test_a_crash_keeps_writes_to_a_file_that_lives_on_under_a_name_nobody_knows(self):
        os.link(self.export / "a/disk", self.export / "b/other-name")
        m = self.mount("lease=no")
        with open(m.path / "a/disk", "r+b", buffering=0) as f:
            os.unlink(m.path / "a/disk")
            f.write(b"one")
            crashbed.sync_names(m.path)
            self.assertEqual((self.export / "b/other-name").read_bytes()[:3], b"one")
            with testbed.stopped_server(m):
                f.write(b"two")
                os.fsync(f.fileno())
                testbed.kill_pid(m.status()["pid"])
        m.__enter__()
        self.assertEqual(m.status()["writes"]["recovered_bytes"], 3)
        crashbed.sync_names(m.path)
        (copy,) = self.copies()
        self.assertEqual(copy.read_bytes()[3:6], b"two")

    def test_a_checkpoint_whose_answer_was_lost_is_settled_although_a_file_of_it_is_gone(self):
        m = self.mount("lease=no", fault="writeback-committed")
        pid = m.status()["pid"]
        scratch = open(m.path / "a/scratch", "w+b", buffering=0)
        disk = open(m.path / "a/disk", "r+b", buffering=0)
        os.unlink(m.path / "a/scratch")
        scratch.write(b"x" * 4096)
        disk.write(b"new")
        self.wait_dead(m, pid)
        for f in (scratch, disk):
            with contextlib.suppress(OSError):
                f.close()
        self.assertEqual((self.export / "a/disk").read_bytes()[:3], b"new")
        m.__enter__()
        testbed.wait_for(lambda: m.status()["writes"]["unsent_files"] == 0, "what was found", 30)
        with open(m.path / "a/disk", "r+b", buffering=0) as again:
            again.write(b"newer")
        crashbed.sync_names(m.path)
        self.assertEqual((self.export / "a/disk").read_bytes()[:6], b"newero")
        self.check_no_conflicts("after an answer that was lost")


class FullAndSlow(CrashBed):
    FILES = ()

    def test_a_full_server_is_waited_for_and_nothing_fails(self):
        small = self.export / "small"
        small.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=6M", "tmpfs", small)
        self.addCleanup(run, "umount", "-l", small)
        (small / "f").write_bytes(b"")
        ballast = small / "ballast"
        ballast.write_bytes(bytes(4 << 20))
        m = self.mount()
        data = self.random.randbytes(4 << 20)
        with open(m.path / "small/f", "r+b", buffering=0) as f:
            for at in range(0, len(data), 1 << 18):
                self.assertEqual(os.pwrite(f.fileno(), data[at:at + (1 << 18)], at), 1 << 18)
            os.fsync(f.fileno())
        flush = threading.Thread(target=crashbed.sync_names, args=(m.path,))
        flush.start()
        testbed.wait_for(lambda: m.status()["writes"]["waiting_for"], "the server to be full")
        self.assertEqual((m.path / "small/f").read_bytes(), data)
        self.assertTrue(flush.is_alive())
        ballast.unlink()
        flush.join(40)
        self.assertFalse(flush.is_alive())
        self.assertEqual((small / "f").read_bytes(), data)
        writes = m.status()["writes"]
        self.assertEqual((writes["waiting_for"], writes["conflicts"], writes["unsent_files"]),
                         ("", [], 0))
        m.umount()

    def test_while_nothing_can_be_sent_what_waits_is_one_checkpoint(self):
        small = self.export / "small"
        small.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", small)
        self.addCleanup(run, "umount", "-l", small)
        (small / "f").write_bytes(b"")
        (self.export / "a/disk").write_bytes(b"")
        m = self.mount("lease=no")
        data = self.random.randbytes(4 << 20)
        with open(m.path / "small/f", "r+b", buffering=0) as f, \
             open(m.path / "a/disk", "r+b", buffering=0) as disk:
            f.write(data)
            os.close(os.dup(f.fileno()))  # each close asks for sending
            testbed.wait_for(lambda: m.status()["writes"]["waiting_for"], "the server to be full")
            for n in range(200):
                os.pwrite(disk.fileno(), load.counter(n)[:8], 8 * n)
                with open(m.path / "a/disk", "ab"):
                    pass
            self.assertLessEqual(m.status()["writes"]["checkpoints_waiting"], 2)
            drop_caches()
            self.assertEqual(os.pread(disk.fileno(), 8, 8 * 199), load.counter(199)[:8])
            run("mount", "-o", "remount,size=16M", small)
            crashbed.sync_names(m.path)
        self.assertEqual((small / "f").read_bytes(), data)
        self.assertEqual((self.export / "a/disk").stat().st_size, 1600)

    def test_writers_wait_while_the_log_is_full(self):
        (self.export / "a/disk").write_bytes(b"")
        m = self.mount("log_size=8M")
        data = self.random.randbytes(24 << 20)
        errors = []

        def write():
            try:
                with open(m.path / "a/disk", "r+b", buffering=0) as f:
                    for at in range(0, len(data), 100_000):
                        part = data[at:at + 100_000]
                        if os.pwrite(f.fileno(), part, at) != len(part):
                            errors.append(f"a short write at {at}")
            except OSError as e:
                errors.append(e)

        writer = threading.Thread(target=write)
        writer.start()
        testbed.wait_for(lambda: m.status()["writes"]["written_bytes"] > 0, "the first write")
        with testbed.stopped_server(m):
            testbed.wait_for(lambda: m.status()["writes"]["waiting_writes"] > 0 or
                             not writer.is_alive(), "a writer that waits", 30)
            self.assertLessEqual(m.status()["writes"]["log_bytes"], 12 << 20)
        writer.join(60)
        self.assertFalse(writer.is_alive())
        self.assertEqual(errors, [])
        drop_caches()
        self.assertEqual((m.path / "a/disk").read_bytes(), data)
        crashbed.sync_names(m.path)
        self.assertEqual((self.export / "a/disk").read_bytes(), data)
        writes = m.status()["writes"]
        self.assertEqual(writes["waiting_writes"], 0)
        self.assertLessEqual(writes["log_bytes"], 10 << 20)

    def test_a_log_that_stays_full_is_enospc_for_its_writers_and_for_no_other(self):
        """semantics.md: a write that finds no room in the log for log_wait fails with ENOSPC, also while
        the server is away."""
        for name in ("a/disk", "a/other"):
            (self.export / name).write_bytes(b"")
        m = self.mount("log_size=8M", "log_wait=1")
        part = self.random.randbytes(1 << 17)
        with open(m.path / "a/disk", "r+b", buffering=0) as f, \
             open(m.path / "a/other", "r+b", buffering=0) as other:
            other.write(b"first")
            with testbed.stopped_server(m):
                count = 0
                with self.assertRaises(OSError) as e:
                    while count < 1000:
                        count += os.pwrite(f.fileno(), part, count << 17) // len(part)
                self.assertEqual(e.exception.errno, errno.ENOSPC)
                self.assertGreater(count, 10)
                writes = m.status()["writes"]
                self.assertEqual(writes["waiting_writes"], 0)
                self.assertGreater(writes["unsent_bytes"], (count - 1) << 17)
                self.assertEqual(os.pread(f.fileno(), len(part), 0), part)
            crashbed.sync_names(m.path)
            self.assertEqual(os.pwrite(f.fileno(), part, count << 17), len(part))
            os.fsync(f.fileno())
        crashbed.sync_names(m.path)
        self.assertEqual((self.export / "a/disk").read_bytes(), part * (count + 1))
        self.assertEqual((self.export / "a/other").read_bytes(), b"first")

    def test_a_crash_between_two_checkpoints_leaves_the_file_its_size(self):
        """What the log still has of a file can lie on what is on the server already, and be all that the
        log still knows: then the file is as long as the server says."""
        (self.export / "a/disk").write_bytes(b"")
        # Dies when two of three checkpoints are on the server and the first one's segment is freed.
        m = self.mount("log_size=8M", "lease=no", fault="writeback-before-trim@2")
        pid = m.status()["pid"]
        data = self.random.randbytes(3 << 20)
        step = 1 << 14
        f = open(m.path / "a/disk", "r+b", buffering=0)
        self.addCleanup(f.close)
        with testbed.stopped_server(m):
            # From the end to the start, so that the last records in the log have low offsets.
            for at in range(len(data) - step, -1, -step):
                os.pwrite(f.fileno(), data[at:at + step], at)
            self.assertGreaterEqual(m.status()["writes"]["checkpoints_waiting"], 2)
        self.wait_dead(m, pid)
        self.assertEqual((self.export / "a/disk").stat().st_size, len(data))
        self.assertNotEqual((self.export / "a/disk").read_bytes(), data)
        m.__enter__()
        self.assertGreater(m.status()["writes"]["recovered_bytes"], 0)
        self.assertEqual((m.path / "a/disk").read_bytes(), data)
        crashbed.sync_names(m.path)
        self.assertEqual((self.export / "a/disk").read_bytes(), data)
        self.check_no_conflicts("after a crash between two checkpoints")

    def test_a_long_outage_is_bridged_in_checkpoints_that_a_crash_keeps_apart(self):
        for name in ("a/disk", "a/other"):
            (self.export / name).write_bytes(b"")
        m = self.mount("log_size=16M")
        data = self.random.randbytes(10 << 20)
        f = open(m.path / "a/disk", "r+b", buffering=0)
        self.addCleanup(f.close)
        other = open(m.path / "a/other", "r+b", buffering=0)
        self.addCleanup(other.close)
        os.pwrite(other.fileno(), b"x", 0)  # the lease, before the server is away
        crashbed.sync_names(m.path)
        with testbed.stopped_server(m):
            for at in range(0, len(data), 1 << 17):
                os.pwrite(f.fileno(), data[at:at + (1 << 17)], at)
                os.pwrite(other.fileno(), load.counter(at)[:8], 0)
            os.fsync(f.fileno())
            writes = m.status()["writes"]
            self.assertGreaterEqual(writes["checkpoints_waiting"], 4)
            self.assertEqual(writes["waiting_writes"], 0)
            drop_caches()
            self.assertEqual(os.pread(f.fileno(), len(data), 0), data)
            testbed.kill_pid(m.status()["pid"])
        m.__enter__()
        self.assertGreaterEqual(m.status()["writes"]["recovered_bytes"], len(data))
        self.assertEqual((m.path / "a/disk").read_bytes(), data)
        crashbed.sync_names(m.path)
        self.assertEqual((self.export / "a/disk").read_bytes(), data)
        self.assertEqual((self.export / "a/other").read_bytes()[:8],
                         load.counter(len(data) - (1 << 17))[:8])
        self.check_no_conflicts("after an outage")

    def test_many_tiny_writes_go_in_checkpoints_that_a_server_takes(self):
        (self.export / "a/disk").write_bytes(b"")
        m = self.mount("log_size=8M")
        with open(m.path / "a/disk", "r+b", buffering=0) as f:
            want = bytearray(10 * 5000)
            with testbed.stopped_server(m):
                for at in range(0, len(want), 10):
                    want[at] = 1 + at % 255
                    os.pwrite(f.fileno(), want[at:at + 1], at)
                self.assertGreaterEqual(m.status()["writes"]["checkpoints_waiting"], 2)
            crashbed.sync_names(m.path)
            self.assertEqual((self.export / "a/disk").read_bytes(), want[:-9])

    def test_who_asked_for_the_server_is_told_that_it_refused(self):
        """semantics.md: fsync, and each write with write=through or O_SYNC, fails with ESTALE when the
        server has refused what was written."""
        def lose(*options):
            for name in ("a/disk", "a/other"):
                (self.export / name).write_bytes(b"o" * SIZE)
            return self.mount(*options, name=options[0].replace("=", "-"),
                              cache="cache-" + options[0].replace("=", "-"))

        def change_behind():
            with open(self.export / "a/disk", "r+b") as there:
                there.write(b"theirs")

        def assert_refused(call, *args):
            with self.assertRaises(OSError) as e:
                call(*args)
            self.assertEqual(e.exception.errno, errno.ESTALE)

        m = lose("durability=remote")
        with open(m.path / "a/disk", "r+b", buffering=0) as f, \
             open(m.path / "a/other", "r+b", buffering=0) as other:
            f.write(b"mine")
            other.write(b"mine")
            change_behind()
            assert_refused(os.fsync, f.fileno())
            os.fsync(other.fileno())
        m.umount(check=False)  # it says that there was a conflict
        m = lose("write=through")
        with open(m.path / "a/disk", "r+b", buffering=0) as f:
            change_behind()
            assert_refused(f.write, b"mine")
        m.umount(check=False)  # it says that there was a conflict
        m = lose("durability=local")
        with open(m.path / "a/disk", "r+b", buffering=0) as f:
            f.write(b"mine")
            os.fsync(f.fileno())
            change_behind()
            crashbed.sync_names(m.path)
            assert_refused(os.fsync, f.fileno())
        self.assertEqual((self.export / "a/disk").read_bytes(), b"theirs".ljust(SIZE, b"o"))
        self.assertEqual(len(list(self.export.rglob("*.conflict-*"))), 3)

    def test_over_a_slow_link_writers_are_slowed_and_go_on(self):
        with testbed.Link(rtt_ms=20, rate_mbit=10) as link, testbed.Sshd(self.dir, link) as sshd:
            (self.export / "a/disk").write_bytes(b"")
            m = testbed.Mount(f"server:{self.export}", self.dir, ["log_size=8M", *crashbed.OPTIONS,
                                                                  *sshd.options()], link)
            with m:
                data = self.random.randbytes(14 << 20)
                with open(m.path / "a/disk", "r+b", buffering=0) as f:
                    for at in range(0, len(data), 1 << 17):
                        self.assertEqual(os.pwrite(f.fileno(), data[at:at + (1 << 17)], at), 1 << 17)
                    os.fsync(f.fileno())
                crashbed.sync_names(m.path)
                self.assertEqual((self.export / "a/disk").read_bytes(), data)
                self.assertEqual(m.status()["writes"]["conflicts"], [])


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
