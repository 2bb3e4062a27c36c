"""VMware's portable file lock (vmware_lock.py), played by processes on one mount and on two mounts of one
export."""

import contextlib
import os
import random
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import Mount
from vmware_lock import Lock, absent
from writing import WritingTest, in_processes

ROUNDS = 6  # locks that each process takes


class VmwareLock(WritingTest):
    def play(self, paths, rounds=ROUNDS):
        """One process per path; all paths lead to one file. The winner proves that it is alone in a
        file outside the mounts, and counts in the file that the lock protects."""
        proof = self.dir / "winner"
        paths[0].write_text("0")

        def take_turns(index):
            random.seed(index)
            for turn in range(rounds):
                lock = Lock(paths[index], f"{os.getpid()}-{turn}(vmware-vmx)")
                lock.acquire()
                os.close(os.open(proof, os.O_CREAT | os.O_EXCL))  # two winners: FileExistsError
                count = int(paths[index].read_text())
                paths[index].write_text(str(count + 1))
                os.unlink(proof)
                lock.release()

        started = time.monotonic()
        in_processes(len(paths), take_turns)
        seconds = time.monotonic() - started
        print(f"{len(paths) * rounds} locks by {len(paths)} processes in {seconds:.1f} s")
        self.assertEqual(paths[0].read_text(), str(len(paths) * rounds))
        self.assertEqual(os.listdir(self.here), ["vm.vmx"])
        self.flush()
        self.assertEqual(os.listdir(self.there), ["vm.vmx"])
        self.assertEqual((self.there / "vm.vmx").read_text(), str(len(paths) * rounds))

    def test_eight_processes_on_one_mount_never_have_two_winners(self):
        self.play([self.here / "vm.vmx"] * 8)

    def test_a_lock_alone_takes_a_few_milliseconds(self):
        (self.here / "vm.vmx").write_text("x")
        self.flush()
        times = []
        for turn in range(30):
            started = time.monotonic()
            lock = Lock(self.here / "vm.vmx", f"{turn}")
            lock.acquire()
            lock.release()
            times.append(time.monotonic() - started)
        times.sort()
        print(f"lock and unlock: median {times[15] * 1000:.1f} ms, worst {times[-1] * 1000:.1f} ms")
        self.assertLess(times[15], 0.1)

    def test_a_reader_finds_no_entry_that_is_not_there(self):
        """Entries come and go; who lists the directory sees each as it is at some moment."""
        lock = Lock(self.here / "vm.vmx", "one")
        for _ in range(20):
            lock.acquire()
            self.assertEqual(os.listdir(lock.directory), [f"M{lock.number}.lck"])
            self.assertTrue(absent(os.stat, lock.name("E")))
            self.assertTrue(absent(os.stat, lock.name("D")))
            lock.release()
            self.assertTrue(absent(os.stat, lock.directory))
            self.assertTrue(absent(os.stat, lock.name("M")))


class OtherHost:
    """A second mount of the export, with a cache of its own."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = Mount(cls.mount.source, cls.dir, cls.mount.options, name="other")
        cls.other.cache = cls.dir / "cache-other"
        cls.other.__enter__()
        cls.addClassCleanup(cls.other.__exit__)


class TwoMounts(OtherHost, VmwareLock):
    """Two mounts with caches of their own stand for two hosts. Without leases they contend for
    names only, as hosts with another file system between them do."""

    options = ("lease=no",)

    def test_four_and_four_processes_on_two_mounts_never_have_two_winners(self):
        other = self.other.path / self.there.name / "vm.vmx"
        self.play([self.here / "vm.vmx", other] * 4)

    def test_o_excl_and_mkdir_have_one_winner_on_two_mounts(self):
        """semantics.md: `O_EXCL` has one winner, on all mounts of an export."""
        places = [self.here, self.other.path / self.there.name]

        def create(index):
            won = 0
            for i in range(10):
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(places[index % 2] / f"f{i}", os.O_CREAT | os.O_EXCL))
                    won += 1
                with contextlib.suppress(FileExistsError):
                    os.mkdir(places[index % 2] / f"d{i}")
                    won += 1
            return won

        self.assertEqual(sum(in_processes(8, create)), 20)


class TwoLeasedMounts(OtherHost, WritingTest):
    """The same with leases: each name is made in one host's log, which the other asks for."""

    options = ("lease_wait=60",)
    play = VmwareLock.play

    def test_two_and_two_processes_on_two_hosts_never_have_two_winners(self):
        other = self.other.path / self.there.name / "vm.vmx"
        self.play([self.here / "vm.vmx", other] * 2, rounds=2)


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
