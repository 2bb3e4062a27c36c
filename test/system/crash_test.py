"""Crashes under a load of writes, at every fault point and at random: nothing that was acknowledged
is lost, nothing happens twice, and the server's files are always of one instant.

SLIPWAY_TEST_SEED replays a run (the moments of crashes are only roughly the same), SLIPWAY_TEST_RUNS
multiplies the number of crashes."""

import os
import shutil
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import crashbed
import load
import testbed
from crashbed import RUNS, SEED, CrashBed

CLIENT_POINTS = ("writeback-before-close", "writeback-staging", "writeback-committed",
                 "writeback-cached", "writeback-applied", "writeback-before-trim")
SERVER_POINTS = ("checkpoint-before-record", "checkpoint-after-record", "checkpoint-after-rename",
                 "checkpoint-between-extents", "checkpoint-between-files",
                 "checkpoint-before-applied", "checkpoint-applied-written",
                 "checkpoint-after-applied", "checkpoint-after-unlink",
                 "change-after-intent", "change-before-result")


class Crashes(CrashBed):
    def crash_client(self, fault, names, kill_server):
        """One crash of the client and what must be true afterwards. Whether a second write to what
        was not sent yet was cut off."""
        what = f"after a crash at {fault or 'a random moment'}, {'with' if names else 'without'} names"
        mount = self.mount(fault=fault)
        pid = mount.status()["pid"]
        servers = testbed.server_processes(pid)
        loads = self.start(mount, names)
        if fault is None:
            time.sleep(self.random.uniform(0.05, 1.0))
            testbed.kill_pid(pid)
        else:
            time.sleep(self.random.uniform(0.05, 0.5))
            if not names:
                threading.Thread(target=flush_quietly, args=(mount.path,)).start()
            self.wait_dead(mount, pid)
        if kill_server:
            for server in servers:
                testbed.kill_pid(server)
        self.workers.join()  # each ends with an error: the mount is gone
        self.finish(loads)
        self.assertEqual(len(self.workers.errors), len(self.workers.loads), self.workers.errors)
        second = not names and any(record.second for record in self.records.values())
        mount.__enter__()
        recovered = mount.status()["writes"]["recovered_bytes"]
        self.assertGreater(recovered, 0, f"seed {SEED}: nothing was unsent {what}")
        self.check_through(mount, what)
        self.check_drained(mount, what)
        mount.umount()
        return second

    def test_what_was_acknowledged_survives_a_crash_of_the_client(self):
        second_writes = 0
        for _ in range(RUNS):
            for fault in (*CLIENT_POINTS, None, None):
                for names in (False, True):
                    times = self.random.choice((1, 2, 5)) if names else 1
                    second_writes += self.crash_client(fault and f"{fault}@{times}", names,
                                                       self.random.random() < 0.3)
        print(f"seed {SEED}: {second_writes} crashes cut off a second write to unsent data",
              file=sys.stderr)
        self.assertGreater(second_writes, 0)

    def test_a_checkpoint_that_is_sent_again_may_be_cut_differently(self):
        for first, second in (("yes", "no"), ("no", "yes")):
            mount = self.mount(f"compress={first}", fault="writeback-staging")
            pid = mount.status()["pid"]
            loads = self.start(mount, names=False)
            time.sleep(0.5)
            flush_quietly(mount.path)
            self.wait_dead(mount, pid)
            self.finish(loads)
            mount.options.append(f"compress={second}")
            mount.__enter__()
            self.check_through(mount, "with another compression")
            self.check_drained(mount, "with another compression")
            mount.umount()

    def test_the_client_does_not_notice_a_crash_of_the_server(self):
        for _ in range(RUNS):
            for fault in (*SERVER_POINTS, None, None):
                times = self.random.choice((1, 2, 3)) if fault else 0
                what = f"after a crash of the server at {fault or 'a random moment'}@{times}"
                if fault:
                    self.arm_server(f"{fault}@{times}")
                mount = self.mount()
                loads = self.start(mount)
                if not fault:
                    time.sleep(self.random.uniform(0.05, 0.6))
                    for server in testbed.server_processes(mount.status()["pid"]):
                        testbed.kill_pid(server)
                testbed.wait_for(lambda m=mount: m.status()["link"]["sessions"] > 1,
                                 f"a new session {what}", 30)
                time.sleep(0.2)
                self.finish(loads)
                self.assertEqual(self.workers.errors, [], what)
                self.check_through(mount, what)
                self.check_drained(mount, what)
                mount.umount()


class MovingFiles(CrashBed):
    """Files that are written to while their names change."""

    FILES = ()

    def write_numbers(self, f):
        """Blocks with ascending numbers, until the mount is gone."""
        try:
            with f:
                while not self.ended.is_set():
                    self.under_way = self.written + 1
                    os.pwrite(f.fileno(), load.counter(self.under_way), self.under_way % 512 * 512)
                    self.written = self.under_way
        except OSError:
            pass

    def rename_about(self, root):
        """The directory: the kernel holds writes to a file back that is itself being renamed."""
        try:
            while not self.ended.is_set():
                os.rename(root / f"d{self.renamed}", root / f"d{self.renamed + 1}")
                self.renamed += 1
        except OSError:
            pass

    def crash(self, fault):
        """Writes to a file whose directory is being renamed; the server dies at the fault point,
        then the client. The writes are in the file, wherever it is now."""
        directory = self.export / "names"
        self.written = self.renamed = 0
        (directory / "d0").mkdir()
        (directory / "d0/f").write_bytes(bytes(512 * 512))
        if fault:
            self.arm_server(fault)
        mount = self.mount()
        pid = mount.status()["pid"]
        servers = testbed.server_processes(pid)
        self.ended = threading.Event()
        file = open(mount.path / "names/d0/f", "r+b", buffering=0)
        threads = [threading.Thread(target=self.write_numbers, args=(file,)),
                   threading.Thread(target=self.rename_about, args=(mount.path / "names",))]
        for thread in threads:
            thread.start()
        if fault:
            testbed.wait_for(lambda: any(crashbed.has_ended(p) for p in servers), fault, 30)
            time.sleep(0.02)
        else:
            time.sleep(self.random.uniform(0.1, 0.4))
        testbed.kill_pid(pid)
        self.ended.set()
        for thread in threads:
            thread.join()
        self.assertGreater(self.written, 0)
        mount.__enter__()
        self.check_numbers(mount.path, fault)
        crashbed.sync_names(mount.path)
        self.check_numbers(self.export, fault)
        self.check_no_conflicts(fault)
        mount.umount()
        shutil.rmtree(directory)
        directory.mkdir()

    def check_numbers(self, root, fault):
        what = f"seed {SEED}: {self.written} written, {self.renamed} renamed, {fault}"
        (directory,) = (root / "names").iterdir()
        self.assertIn(directory.name, (f"d{self.renamed}", f"d{self.renamed + 1}"), what)
        content = (directory / "f").read_bytes()
        self.assertEqual([p.name for p in directory.iterdir()], ["f"])
        for number in range(max(1, self.written - 511), self.written + 1):
            at = number % 512 * 512
            if at == self.under_way % 512 * 512:
                continue  # was being written over
            self.assertEqual(content[at:at + 512], load.counter(number), f"{number}; {what}")

    def test_a_file_keeps_its_writes_while_its_directory_is_renamed(self):
        for _ in range(RUNS):
            for fault in ("change-after-intent@3", "change-before-result", "change-before-result@4",
                          None, None):
                self.crash(fault)

    def test_writes_to_a_removed_file_end_with_a_crash(self):
        for is_replaced in (False, True):
            for name in ("f", "g"):
                (self.export / "names" / name).write_bytes(bytes(100_000))
            mount = self.mount()
            with open(mount.path / "names/f", "r+b", buffering=0) as f:
                f.write(b"before")
                if is_replaced:
                    os.rename(mount.path / "names/g", mount.path / "names/f")
                else:
                    os.unlink(mount.path / "names/f")
                f.write(b"afterwards")
                testbed.kill_pid(mount.status()["pid"])
            mount.__enter__()
            crashbed.sync_names(mount.path)
            left = {"f": bytes(100_000)} if is_replaced else {"g": bytes(100_000)}
            for root in (mount.path, self.export):
                self.assertEqual(crashbed.describe(load.read_names(root / "names")),
                                 crashbed.describe(left))
            self.check_no_conflicts("after a removed file")
            self.assertEqual(mount.status()["writes"]["conflicts"], [])
            mount.umount()

    def write_under_two_names(self, end):
        (self.export / "names/f").write_bytes(bytes(100_000))
        os.link(self.export / "names/f", self.export / "names/g")
        mount = self.mount()
        with open(mount.path / "names/f", "r+b", buffering=0) as f:
            f.write(b"before")
            os.unlink(mount.path / "names/f")
            f.write(b"afterwards")
            end(mount)
        return mount

    def test_a_file_with_a_second_name_keeps_what_is_written_after_one_is_removed(self):
        mount = self.write_under_two_names(lambda m: crashbed.sync_names(m.path))
        for root in (self.export, mount.path):
            self.assertEqual((root / "names/g").read_bytes()[:16], b"beforeafterwards")
        self.check_no_conflicts("after a removed name")

    def test_a_name_that_was_made_here_is_known_after_a_crash(self):
        (self.export / "names/f").write_bytes(bytes(100_000))
        mount = self.mount()
        with open(mount.path / "names/f", "r+b", buffering=0) as f:
            os.link(mount.path / "names/f", mount.path / "names/g")
            f.write(b"before")
            os.unlink(mount.path / "names/f")
            f.write(b"between")
            os.rename(mount.path / "names/g", mount.path / "names/f")
            f.write(b"afterwards")
            testbed.kill_pid(mount.status()["pid"])
        mount.__enter__()
        for root in (mount.path, self.export):
            self.assertEqual((root / "names/f").read_bytes()[:23], b"beforebetweenafterwards")
            crashbed.sync_names(mount.path)
        self.check_no_conflicts("after a link")

    def test_after_a_crash_it_is_not_known_by_which_name_so_there_is_a_conflict_copy(self):
        mount = self.write_under_two_names(lambda m: testbed.kill_pid(m.status()["pid"]))
        mount.__enter__()
        crashbed.sync_names(mount.path)
        there = (self.export / "names/g").read_bytes()[:16]
        self.assertEqual(there[:6], b"before")
        if there[6:] == b"afterwards":
            return  # it had been sent through the open handle when the crash came
        (copy,) = (self.export / "names").glob("f.conflict-*")
        self.assertEqual(copy.read_bytes()[6:16], b"afterwards")
        self.assertEqual(len(mount.status()["writes"]["conflicts"]), 1)


class LostCaches(CrashBed):
    """A load that writes a number to two files in turn. Without the cache the server shows one
    instant: both have the same number, or only the first has the next one."""

    FILES = ()

    def setUp(self):
        super().setUp()
        self.written = 0

    def count(self, mount):
        with open(mount.path / "first", "r+b", buffering=0) as first, \
             open(mount.path / "second", "r+b", buffering=0) as second:
            while not self.ended.is_set():
                number = self.written + 1
                for file in (first, second):
                    os.pwrite(file.fileno(), load.counter(number), 0)
                    os.pwrite(file.fileno(), load.counter(number), 300_000)
                self.written = number

    def count_quietly(self, mount):
        try:
            self.count(mount)
        except OSError:
            pass  # the mount has been killed

    def flush_until_ended(self, path):
        self.flushes = 0
        while not self.ended.is_set():
            flush_quietly(path)
            self.flushes += 1

    def counters(self):
        """What the server's files say; each must be whole."""
        found = []
        for name in ("first", "second"):
            content = (self.export / name).read_bytes()
            number = int.from_bytes(content[:8], "little")
            self.assertEqual(content[:512], load.counter(number), f"seed {SEED}")
            later = int.from_bytes(content[300_000:300_008], "little")
            self.assertEqual(content[300_000:], load.counter(later), f"seed {SEED}")
            self.assertIn(later, (number, number - 1), f"seed {SEED}: {name}")
            found.append((number, later))
        return found

    def check_one_instant(self, what):
        (a, a_later), (b, b_later) = self.counters()
        written = [a, a_later, b, b_later]  # in the order of writing
        self.assertEqual(written, sorted(written, reverse=True), f"seed {SEED}: torn {what}")
        self.assertLessEqual(a - b_later, 1, f"seed {SEED}: torn {what}")
        return a

    def lose(self, fault=None, client_fault=None):
        """Counts until a crash; then the cache is gone, and a session recovers the server."""
        before = self.written
        for name in ("first", "second"):
            (self.export / name).write_bytes(load.counter(before).ljust(300_000, b"\0") +
                                             load.counter(before))
        if fault:
            self.arm_server(fault)
        # Who has lost the cache is another client; it would wait until the lease has run out.
        mount = self.mount("lease=no", fault=client_fault)
        pid = mount.status()["pid"]
        servers = testbed.server_processes(pid)
        self.ended = threading.Event()
        thread = threading.Thread(target=self.count_quietly, args=(mount,))
        thread.start()
        testbed.wait_for(lambda: self.written > before, "a write before the first flush", 30)
        flushes = threading.Thread(target=self.flush_until_ended, args=(mount.path,))
        flushes.start()
        if fault or client_fault:
            awaited = servers if fault else [pid]
            testbed.wait_for(lambda: any(crashbed.has_ended(p) for p in awaited),
                             fault or client_fault, 30)
        else:
            time.sleep(self.random.uniform(0.5, 1.0))
        testbed.kill_pid(pid)
        self.ended.set()
        thread.join()
        flushes.join()
        testbed.end_sessions(self.dir)
        self.assertGreater(self.written, before)
        mount.umount(check=False)  # it says what is unsent
        shutil.rmtree(mount.cache)
        other = self.mount(cache="other-cache", name="other")  # its session recovers what was committed
        reached = self.check_one_instant(f"after {fault or client_fault or 'a random kill'}")
        self.assertGreaterEqual(self.written + 1, reached)
        self.written = max(self.written, reached)
        other.umount()
        self.check_no_conflicts("after the loss of a cache")
        return self.flushes

    def test_without_its_cache_a_mount_leaves_the_server_at_one_instant(self):
        checkpoints = 0
        for _ in range(3 * RUNS):
            checkpoints += self.lose()
        self.assertGreater(checkpoints, 30)

    def test_so_it_does_when_both_crash_while_a_checkpoint_is_applied(self):
        for _ in range(RUNS):
            for point in SERVER_POINTS[:9]:
                with self.subTest(point=point):
                    self.lose(fault=f"{point}@{self.random.choice((1, 2, 3, 7))}")
            for point in CLIENT_POINTS[:4]:
                with self.subTest(point=point):
                    self.lose(client_fault=f"{point}@{self.random.choice((1, 2, 9))}")


def flush_quietly(path):
    try:
        crashbed.sync_names(path)
    except OSError:
        pass  # it has been killed


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
