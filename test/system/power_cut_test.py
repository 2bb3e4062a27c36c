"""Power cuts of the VM host under a load of writes: what fsync promised is there afterwards, and what
is there are the first so many writes, in their order. Without fsync the same check fails."""

import os
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import crashbed
import load
import power_cut
import testbed
from crashbed import RUNS, SEED, CrashBed

SLOTS = 97
SLOT = 4096  # bytes: the kernel splits what crosses pages; in the log they share pages all the same
CUTS = 8


def has_conflicts(export):
    return any(export.rglob("*.conflict-*"))


def block(number):
    return load.counter(number) * (SLOT // 512)


class PowerCuts(CrashBed):
    """Write number n puts its number into slot n % SLOTS of one of two files."""

    FILES = ()

    def setUp(self):
        super().setUp()
        self.shim = power_cut.build_shim(self.dir)
        for name in ("a/one", "b/two"):
            (self.export / name).write_bytes(bytes(SLOTS * SLOT))
        self.last = 0

    def write(self, mount):
        """Until the mount is gone. Keeps the last number that returned, and that was synced."""
        random = crashbed.random.Random(self.random.random())
        try:
            files = [os.open(mount.path / name, os.O_RDWR) for name in ("a/one", "b/two")]
            while not self.ended.is_set():
                number = self.last + 1
                fd = files[number % 2]
                os.pwrite(fd, block(number), number % SLOTS * SLOT)
                self.last = number
                if random.random() < 0.1:
                    os.fsync(fd)
                    self.synced = number
                if random.random() < 0.01:
                    crashbed.sync_names(mount.path)
        except OSError:
            pass

    def found(self, mount):
        """The number up to which the writes are there. An error: they are no such row."""
        contents = [(mount.path / name).read_bytes() for name in ("a/one", "b/two")]
        numbers = {}
        for slot in range(SLOTS):
            for content in contents:
                piece = content[slot * SLOT:(slot + 1) * SLOT]
                number = int.from_bytes(piece[:8], "little")
                if number == 0:
                    self.assertEqual(piece.count(0), SLOT)
                    continue
                self.assertEqual(piece, block(number), f"write {number}")
                numbers[number] = slot
        reached = max(numbers, default=0)
        for number in range(max(1, reached - 2 * SLOTS + 1), reached + 1):
            self.assertIn(number, numbers, f"seed {SEED}: of {reached} writes")
        return reached

    def run_to_a_cut(self, syncs):
        """Writes until the power is cut, and mounts again. What is promised and what is there."""
        trace = self.dir / "trace"
        trace.unlink(missing_ok=True)
        with crashbed.environment(**power_cut.environment(self.shim, self.dir / "cache/log", trace,
                                                          syncs)):
            mount = self.mount()
        pid = mount.status()["pid"]
        self.synced = self.last
        self.ended = threading.Event()
        writer = threading.Thread(target=self.write, args=(mount,))
        writer.start()
        first = self.last
        testbed.wait_for(lambda: self.last > first + 3 * SLOTS, "writes", 60)
        testbed.kill_pid(pid)
        self.ended.set()
        writer.join()
        promised, returned = self.synced, self.last
        lost = power_cut.cut(self.dir / "cache/log", trace, self.random)
        mount.__enter__()
        reached = self.found(mount)
        damaged = mount.status()["writes"]["log_damaged"]
        crashbed.sync_names(mount.path)
        mount.umount(check=False)  # it says whether there were conflicts
        self.last = reached
        return promised, returned, reached, lost, damaged

    def test_after_a_power_cut_what_was_synced_is_there_and_the_rest_is_the_first_of_the_writes(self):
        lost_pages = lost_writes = 0
        for _ in range(CUTS * RUNS):
            promised, returned, reached, lost, damaged = self.run_to_a_cut(syncs=True)
            self.assertGreaterEqual(reached, promised, f"seed {SEED}")
            self.assertLessEqual(reached, returned + 1)
            self.assertFalse(damaged, f"seed {SEED}")
            self.check_no_conflicts("after a power cut")
            lost_pages += lost
            lost_writes += max(0, returned - reached)
        print(f"seed {SEED}: {lost_pages} pages and {lost_writes} writes went with the power",
              file=sys.stderr)
        self.assertGreater(lost_writes, 0)

    def test_without_syncs_the_same_check_finds_the_loss(self):
        failed = 0
        for _ in range(3):
            try:
                promised, _, reached, _, damaged = self.run_to_a_cut(syncs=False)
                failed += reached < promised or damaged or has_conflicts(self.export)
            except (AssertionError, OSError):
                failed += 1
                break  # the files are no row of writes any more
        self.assertGreater(failed, 0)


class PowerCutsOfNames(CrashBed):
    """Files are made, written, renamed and removed, one step after the other. After a power cut the mount
    shows what was there after one of them, none before the last fsync."""

    FILES = ()
    KEPT = 6  # files; older ones are removed
    STEPS = ("make", "write", "rename", "remove")

    def setUp(self):
        super().setUp()
        self.shim = power_cut.build_shim(self.dir)
        self.names_dir = "names/round-0"

    def expected(self, steps):
        """Content by name after so many steps."""
        number, done = divmod(steps, len(self.STEPS))
        there = {f"{n}": block(n) for n in range(max(1, number - self.KEPT + 1), number + 1)}
        if done:
            name = f"{number + 1}" if done > 2 else f"{number + 1}.tmp"
            there[name] = block(number + 1) if done > 1 else b""
        return there

    def step(self, directory, steps):
        number, which = divmod(steps, len(self.STEPS))
        number += 1
        path = directory / f"{number}.tmp"
        if self.STEPS[which] == "make":
            self.fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        elif self.STEPS[which] == "write":
            os.pwrite(self.fd, block(number), 0)
        elif self.STEPS[which] == "rename":
            os.rename(path, directory / f"{number}")
        else:
            os.close(self.fd)
            if number > self.KEPT:
                os.unlink(directory / f"{number - self.KEPT}")

    def work(self, mount):
        random = crashbed.random.Random(self.random.random())
        try:
            while not self.ended.is_set():
                self.step(mount.path / self.names_dir, self.steps)
                self.steps += 1
                if self.steps % len(self.STEPS) != 0 and random.random() < 0.2:
                    os.fsync(self.fd)
                    self.synced = self.steps
                if random.random() < 0.02:
                    crashbed.sync_names(mount.path)
                    self.flushes += 1
        except OSError:
            pass

    def test_after_a_power_cut_names_and_content_are_those_after_one_step(self):
        lost_steps = self.flushes = 0
        for turn in range(CUTS * RUNS):
            trace = self.dir / "trace"
            trace.unlink(missing_ok=True)
            self.names_dir = f"names/round-{turn}"
            (self.export / self.names_dir).mkdir()
            with crashbed.environment(**power_cut.environment(self.shim, self.dir / "cache/log",
                                                              trace, True)):
                mount = self.mount()
            pid = mount.status()["pid"]
            self.steps = self.synced = 0
            self.ended = threading.Event()
            worker = threading.Thread(target=self.work, args=(mount,))
            worker.start()
            least = self.random.randrange(5, 80)
            testbed.wait_for(lambda: self.steps > least and self.synced, "steps", 60)
            testbed.kill_pid(pid)
            self.ended.set()
            worker.join()
            power_cut.cut(self.dir / "cache/log", trace, self.random)
            mount.__enter__()
            found = {p.name: p.read_bytes() for p in (mount.path / self.names_dir).iterdir()}
            reached = [k for k in range(self.synced, self.steps + 2) if self.expected(k) == found]
            self.assertTrue(reached, f"seed {SEED}: {self.synced} steps were synced, {self.steps} done; "
                                     f"there are {sorted(found)}")
            lost_steps += max(0, self.steps - reached[-1])
            self.assertFalse(mount.status()["writes"]["log_damaged"], f"seed {SEED}")
            crashbed.sync_names(mount.path)
            there = {p.name: p.read_bytes() for p in (self.export / self.names_dir).iterdir()}
            self.assertEqual(there, found)
            self.check_no_conflicts("after a power cut")
            mount.umount()
        print(f"seed {SEED}: {lost_steps} steps went with the power, {self.flushes} flushes",
              file=sys.stderr)
        self.assertGreater(lost_steps, 0)
        self.assertGreater(self.flushes, 0)


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
