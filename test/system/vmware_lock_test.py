"""VMware's portable file lock, played by processes on one mount and on two mounts of one export:
Lamport's bakery with directories and small files, as its open file library does it."""

import contextlib
import errno
import os
import random
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import Mount
from writing import WritingTest, in_processes

RECORD = 512  # bytes of a member file
ROUNDS = 6  # locks that each process takes
TOO_LONG = 100  # seconds


def absent(call, *arguments):
    """Whether what the call is about is not there."""
    try:
        call(*arguments)
    except FileNotFoundError:
        return True
    return False


class Lock:
    """One process's side of the lock of a file."""

    def __init__(self, path, who):
        self.directory = f"{path}.lck"
        self.who = who
        self.deadline = time.monotonic() + TOO_LONG

    def name(self, letter):
        return f"{self.directory}/{letter}{self.number}.lck"

    def acquire(self):
        while not self.enter():
            self.pause()
        while not self.is_first():
            self.pause()

    def pause(self):
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"{self.who} waits; there are {os.listdir(self.directory)}")
        time.sleep(random.uniform(0.001, 0.02))

    def enter(self):
        """Becomes a member with a ticket behind all others; False when it must begin again."""
        with contextlib.suppress(FileNotFoundError):
            os.stat(self.directory)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.directory, 0o777)
        self.number = f"{random.randrange(100):05d}"  # few, so that they collide
        try:
            os.mkdir(self.name("D"), 0o777)
        except (FileExistsError, FileNotFoundError):
            return False  # taken, or the last holder removed the lock's directory
        if not absent(os.stat, self.name("M")):
            os.rmdir(self.name("D"))
            return False
        fd = os.open(self.name("E"), os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o644)
        try:
            tickets = [ticket for ticket, _ in self.members().values()]
            self.ticket = max(tickets, default=0) + 1
            record = f"{self.ticket} {self.who}".encode().ljust(RECORD, b"\0")
            if os.write(fd, record) != RECORD:
                raise OSError(errno.EIO, "a short write")
        finally:
            os.close(fd)
        os.rename(self.name("E"), self.name("M"))
        os.rmdir(self.name("D"))
        return True

    def members(self):
        """Tickets by number."""
        found = {}
        for name in os.listdir(self.directory):
            if not name.startswith("M"):
                continue
            try:
                with open(f"{self.directory}/{name}", "rb") as f:
                    record = f.read()
            except FileNotFoundError:
                continue  # given up meanwhile
            if len(record) != RECORD:
                raise AssertionError(f"{name} is a member with {len(record)} bytes")
            ticket, who = record.rstrip(b"\0").decode().split(" ", 1)
            found[name[1:-4]] = (int(ticket), who)
        return found

    def is_first(self):
        names = os.listdir(self.directory)
        if f"M{self.number}.lck" not in names:
            raise AssertionError(f"{self.who} does not see its own entry: {names}")
        if any(name.startswith("D") for name in names):
            return False  # somebody chooses a ticket
        mine = (self.ticket, self.number)
        return all(mine <= (ticket, number) for number, (ticket, _) in self.members().items())

    def release(self):
        os.unlink(self.name("M"))
        with contextlib.suppress(FileNotFoundError):
            try:
                os.rmdir(self.directory)
            except OSError as e:
                if e.errno != errno.ENOTEMPTY:
                    raise


class VmwareLock(WritingTest):
    def play(self, paths):
        """One process per path; all paths lead to one file. The winner proves that it is alone in a
        file outside the mounts, and counts in the file that the lock protects."""
        proof = self.dir / "winner"
        paths[0].write_text("0")

        def take_turns(index):
            random.seed(index)
            for turn in range(ROUNDS):
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
        print(f"{len(paths) * ROUNDS} locks by {len(paths)} processes in {seconds:.1f} s")
        self.assertEqual(paths[0].read_text(), str(len(paths) * ROUNDS))
        self.assertEqual(os.listdir(self.here), ["vm.vmx"])
        self.flush()
        self.assertEqual(os.listdir(self.there), ["vm.vmx"])
        self.assertEqual((self.there / "vm.vmx").read_text(), str(len(paths) * ROUNDS))

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


class TwoMounts(VmwareLock):
    """Two mounts with caches of their own stand for two hosts. Without leases they contend for
    names only, as hosts with another file system between them do."""

    options = ("lease=no",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = Mount(cls.mount.source, cls.dir, cls.mount.options, name="other")
        cls.other.cache = cls.dir / "cache-other"
        cls.other.__enter__()
        cls.addClassCleanup(cls.other.__exit__)

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


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
