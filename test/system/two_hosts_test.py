"""Two hosts with an emulated wide-area link each to one image server: a VM that goes from one to the
other, and what becomes of it when a link is cut, the server starts anew, or a host is away for long.
A lease lasts a few seconds here, so that being away for many of its lengths takes seconds, not a day."""

import errno
import json
import os
import random
import statistics
import sys
import time
import unittest
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import SLIPWAY, Link, Mount, Sshd, TempTree, run, wait_for

LENGTH = 3  # seconds that a lease lasts here
MEMORY = 3 << 20  # bytes of the VM's memory state
CONFLICT = 34


def said_of(state):
    return b"suspended %08x" % zlib.crc32(state)


class Host:
    """A namespace with a link to the server's, and a mount in it."""

    def __init__(self, test, name):
        self.test = test
        self.directory = test.dir / name
        self.directory.mkdir()
        self.link = Link(rtt_ms=20, rate_mbit=200, tag=name)
        self.link.__enter__()
        test.addCleanup(self.link.__exit__)
        self.sshd = Sshd(self.directory, link=self.link,
                         extra_config=f"SetEnv SLIPWAYD_LEASE_SECONDS={test.length}")
        self.sshd.__enter__()
        test.addCleanup(self.sshd.__exit__)
        self.mount()

    def mount(self):
        self.m = Mount(f"server:{self.test.export}", self.directory,
                       [*self.sshd.options(), *self.test.options], link=self.link)
        self.m.__enter__()
        self.path = self.m.path
        self.test.addCleanup(self.m.__exit__)

    def cut(self):
        self.link.tell("cut")

    def restore(self):
        self.link.tell("restore")

    def writes(self):
        return self.m.status()["writes"]

    def suspend(self, state):
        """As a monitor that writes a VM's memory state and then says so in a small file."""
        (self.path / "vm/memory").write_bytes(state)
        with open(self.path / "vm/state", "wb") as f:
            f.write(said_of(state))
            os.fsync(f.fileno())

    def resume(self):
        state = (self.path / "vm/memory").read_bytes()
        said = (self.path / "vm/state").read_bytes()
        return state, said == said_of(state)

    def flush(self, check=True):
        return run(SLIPWAY, "flush", self.path, check=check)

    def holds(self):
        return [x["group"] for x in self.m.status()["leases"] if x["state"] == "held"]


class TwoHostsTest(unittest.TestCase):
    options = ("lease_wait=2",)
    length = LENGTH

    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        self.export = self.dir / "export"
        (self.export / "vm").mkdir(parents=True)
        (self.export / "vm/disk").write_bytes(b"0" * 100_000)
        for name in ("memory", "state"):
            (self.export / "vm" / name).write_bytes(b"")
        run(testbed.SLIPWAYD, "init", self.export)
        self.random = random.Random(7)
        self.a, self.b = Host(self, "a"), Host(self, "b")

    def assert_busy(self, call):
        with self.assertRaises(OSError) as e:
            call()
        self.assertEqual(e.exception.errno, errno.EBUSY)

    def assert_only(self, *names):
        self.assertEqual(sorted(p.name for p in (self.export / "vm").iterdir()), sorted(names))

    def leave_unsent(self, host, data):
        """Cuts it off while it has a file open, with writes that the server knows of and does not have."""
        f = open(host.path / "vm/disk", "r+b", buffering=0)
        self.addCleanup(f.close)
        other = self.b if host is self.a else self.a

        def is_told():
            """Writes go by themselves after a while, so this may take more than one."""
            f.seek(0)
            f.write(data)
            listed = json.loads(run(SLIPWAY, "lease", "ls", "--json", other.path).stdout)
            return any(lease["unsent_bytes"] for lease in listed)

        wait_for(is_told, "the server to be told", 30)
        host.cut()
        f.seek(0)
        f.write(data)
        os.fsync(f.fileno())
        self.assertGreater(host.writes()["unsent_bytes"], 0)
        return f


class Away(TwoHostsTest):
    def test_a_suspended_vm_whose_host_is_cut_off_is_not_resumed_elsewhere_half(self):
        """The other host reads the state before, whole, and may not write, until the first one's writes
        have come; then it has them."""
        before = self.random.randbytes(MEMORY)
        self.a.suspend(before)
        self.a.flush()
        data = self.random.randbytes(50_000)
        memory = open(self.a.path / "vm/memory", "r+b", buffering=0)
        self.addCleanup(memory.close)
        state = open(self.a.path / "vm/state", "r+b", buffering=0)
        self.addCleanup(state.close)
        disk = self.leave_unsent(self.a, data)
        after = self.random.randbytes(MEMORY)
        memory.write(after)
        state.write(said_of(after))
        os.fsync(state.fileno())
        found, is_whole = self.b.resume()
        self.assertTrue(is_whole)
        self.assertEqual(found, before)
        self.assert_busy(lambda: open(self.b.path / "vm/disk", "r+b"))
        for f in (memory, state, disk):
            f.close()  # the monitor has ended
        self.a.restore()
        with wait_for(lambda: self.opened(self.b), "the lease", 90) as f:
            self.assertEqual(f.read(len(data)), data)
        self.assertEqual(self.b.resume(), (after, True))
        self.assert_only("disk", "memory", "state")

    def opened(self, host):
        """The disk open for writing, or nothing while another mount has the lease."""
        try:
            return open(host.path / "vm/disk", "r+b", buffering=0)
        except OSError as e:
            self.assertEqual(e.errno, errno.EBUSY)
            return None

    def test_the_server_starts_anew_between_a_write_and_its_sending(self):
        data = self.random.randbytes(50_000)
        f = self.leave_unsent(self.a, data)
        for host in (self.a, self.b):
            host.sshd.reboot()
        # Its records outlive the server's processes: the lease is still the first host's.
        self.assert_busy(lambda: open(self.b.path / "vm/disk", "r+b"))
        self.a.restore()
        wait_for(lambda: self.a.writes()["unsent_bytes"] == 0, "what was unsent", 90)
        self.assertEqual((self.export / "vm/disk").read_bytes()[:len(data)], data)
        f.close()
        self.assertEqual((self.b.path / "vm/disk").read_bytes()[:len(data)], data)
        with open(self.b.path / "vm/disk", "r+b") as g:
            g.write(b"b")
        self.assert_only("disk", "memory", "state")

    def test_a_host_that_was_away_for_long_with_unsent_writes_sends_them_when_it_is_back(self):
        """Nobody could take its lease, however long it was away."""
        data = self.random.randbytes(50_000)
        f = self.leave_unsent(self.a, data)
        time.sleep(4 * LENGTH)
        self.assert_busy(lambda: open(self.b.path / "vm/disk", "r+b"))
        self.a.restore()
        wait_for(lambda: self.a.writes()["unsent_bytes"] == 0, "what was unsent", 90)
        f.write(b"and goes on")
        f.close()
        self.a.flush()
        self.assertEqual((self.export / "vm/disk").read_bytes()[:50_011], data + b"and goes on")
        self.assertEqual(self.a.writes()["conflicts"], [])
        self.assert_only("disk", "memory", "state")

    def test_a_host_that_was_away_for_long_and_was_broken_from_its_lease_keeps_both_versions(self):
        data = self.random.randbytes(50_000)
        f = self.leave_unsent(self.a, data)
        self.assert_busy(lambda: open(self.b.path / "vm/disk", "r+b"))
        run(SLIPWAY, "lease", "break", "--yes", self.b.path, "vm")
        with open(self.b.path / "vm/disk", "r+b") as g:
            g.write(b"the other host's")
        self.b.flush()
        self.a.restore()
        wait_for(lambda: self.a.writes()["conflicts"], "the conflict to be told", 90)
        (copy,) = [p for p in (self.export / "vm").iterdir() if "conflict" in p.name]
        self.assertEqual(copy.read_bytes()[:len(data)], data)
        self.assertEqual((self.export / "vm/disk").read_bytes()[:16], b"the other host's")
        f.close()
        self.assertEqual(self.a.m.umount(check=False).returncode, CONFLICT)
        self.assertEqual(self.b.m.umount(check=False).returncode, 0)

    def test_a_host_that_was_away_with_nothing_unsent_is_followed_and_finds_the_new_content(self):
        f = open(self.a.path / "vm/disk", "r+b", buffering=0)
        self.addCleanup(f.close)
        f.write(b"a")
        self.a.flush()
        wait_for(lambda: self.a.writes()["unsent_bytes"] == 0, "nothing unsent")
        self.a.cut()
        with wait_for(lambda: self.opened(self.b), "the lease to expire", 60) as g:
            g.write(b"b")
        self.b.flush()
        self.a.restore()
        # What was open there belongs to the time before; it never mixes both hosts' writes.
        deadline = time.monotonic() + 60
        with self.assertRaises(OSError) as e:
            while time.monotonic() < deadline:
                os.pwrite(f.fileno(), b"late", 50)
                os.fsync(f.fileno())
                time.sleep(0.05)
        self.assertEqual(e.exception.errno, errno.ESTALE)
        self.assertEqual((self.a.path / "vm/disk").read_bytes()[:1], b"b")
        self.assertEqual((self.export / "vm/disk").read_bytes()[50:54], b"0000")


class HandOver(TwoHostsTest):
    options = ()

    def test_a_vm_that_is_suspended_on_one_host_resumes_on_the_other(self):
        """Handed over back and forth; the state that is found is always the one that was left."""
        for turn in range(4):
            one, other = (self.a, self.b) if turn % 2 == 0 else (self.b, self.a)
            state = self.random.randbytes(MEMORY)
            one.suspend(state)
            one.flush()  # as the middleware does
            found, is_whole = other.resume()
            self.assertTrue(is_whole)
            self.assertEqual(found, state)
            with open(other.path / "vm/disk", "r+b") as f:
                f.write(b"turn %d" % turn)
            wait_for(lambda: not one.holds(), "the first host to give the lease back")
        for host in (self.a, self.b):
            self.assertEqual(host.m.umount(check=False).returncode, 0)
        self.assert_only("disk", "memory", "state")


class QuickHandOver(TwoHostsTest):
    options = ("lease_wait=5",)
    length = 60  # so that no renewal tells the holder in time

    def test_an_open_on_the_other_host_gets_the_lease_in_a_few_round_trips(self):
        for unsent in (0, 1 << 20):
            times = []
            for turn in range(6):
                one, other = (self.a, self.b) if turn % 2 == 0 else (self.b, self.a)
                with open(one.path / "vm/disk", "r+b") as f:
                    f.write(b"turn %d" % turn + self.random.randbytes(unsent))
                if not unsent:
                    one.flush()
                start = time.monotonic()
                with open(other.path / "vm/disk", "r+b") as f:
                    times.append(time.monotonic() - start)
                    self.assertEqual(f.read(6), b"turn %d" % turn)
            median = statistics.median(times[1:])
            print(f"open with {unsent} bytes unsent on the other host: {1000 * median:.0f} ms "
                  f"({', '.join(f'{1000 * t:.0f}' for t in times)}); a round trip takes 20 ms")
            self.assertLess(median, 1.5)


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
