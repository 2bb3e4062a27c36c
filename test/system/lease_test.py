"""Leases: two mounts of one export, with a cache each, and who of them may write. Each test quotes
the sentences of docs/semantics.md ("Leases") that it checks."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import Mount, TempTree, kill_pid, run, wait_for

LENGTH = 3  # seconds that a lease lasts here


class Leases(unittest.TestCase):
    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        os.environ["SLIPWAYD_LEASE_SECONDS"] = str(LENGTH)
        self.addCleanup(os.environ.pop, "SLIPWAYD_LEASE_SECONDS")
        self.export = self.dir / "export"
        for group in ("vm", "other"):
            (self.export / group).mkdir(parents=True)
            (self.export / group / "disk").write_bytes(b"0" * 4096)
        run(testbed.SLIPWAYD, "init", self.export)

    def mount(self, name, *options, source=None):
        mount = Mount(f"local:{source or self.export}", self.dir,
                      [f"server_command={testbed.SLIPWAYD} session", *options], name=name)
        mount.cache = self.dir / f"cache-{name}"
        mount.__enter__()
        self.addCleanup(mount.__exit__)
        return mount

    def leases(self, mount):
        listed = json.loads(run(testbed.SLIPWAY, "lease", "ls", "--json", mount.path).stdout)
        return {lease["group"]: lease for lease in listed}

    def assert_errno(self, number, call):
        with self.assertRaises(OSError) as e:
            call()
        self.assertEqual(e.exception.errno, number)

    def kill(self, mount):
        """The mount's process ends as by a crash; files of it that are open are of no use."""
        kill_pid(mount.status()["pid"])
        run(testbed.SLIPWAY, "umount", "-l", mount.path)

    def test_one_mount_at_a_time_changes_a_group(self):
        """"While one mount holds a group's lease, an open for writing or a change of names there by
        another mount waits (lease_wait=, 5 s) and then fails with EBUSY." """
        a, b = self.mount("a"), self.mount("b", "lease_wait=1")
        with open(a.path / "vm/disk", "r+b") as held:
            held.write(b"a")
            self.assert_errno(errno.EBUSY, lambda: open(b.path / "vm/disk", "r+b"))
            self.assert_errno(errno.EBUSY, lambda: os.mkdir(b.path / "vm/new"))
            self.assert_errno(errno.EBUSY, lambda: os.rename(b.path / "vm/disk", b.path / "vm/x"))
            self.assert_errno(errno.EBUSY, lambda: os.chmod(b.path / "vm/disk", 0o600))
            self.assertEqual((b.path / "vm/disk").read_bytes()[1:], b"0" * 4095)
            (b.path / "other/disk").write_bytes(b"another group")
            self.assertEqual([x["state"] for x in a.status()["leases"]], ["held"])
            listed = self.leases(b)
            self.assertEqual({g: x["mine"] for g, x in listed.items()},
                             {"vm": False, "other": True})

    def test_a_lease_that_is_not_needed_is_handed_over(self):
        """"A holder that has nothing unsent and nothing open for writing gives a lease back when
        another mount wants it; one that has something unsent sends that first." """
        a, b = self.mount("a"), self.mount("b")
        (a.path / "vm/disk").write_bytes(b"from a")
        with open(b.path / "vm/disk", "r+b") as f:  # what is unsent goes first
            self.assertEqual(f.read(), b"from a")
            f.write(b"!")
        self.assertTrue(wait_for(lambda: (self.export / "vm/disk").read_bytes() == b"from a!",
                                 "b's write"))
        b.umount()
        self.assertEqual(self.leases(a), {})

    def test_a_holder_that_died_with_nothing_unsent_is_followed_after_the_leases_length(self):
        """"A lease that was not renewed for its length (60 s) may be taken by another mount, unless
        its holder had reported unsent writes." """
        a, b = self.mount("a"), self.mount("b", f"lease_wait={LENGTH + 5}")
        with open(a.path / "vm/disk", "r+b", buffering=0) as f:
            f.write(b"a")
            os.fsync(f.fileno())
            run(testbed.SLIPWAY, "flush", a.path)
            wait_for(lambda: self.leases(b)["vm"]["unsent_bytes"] == 0, "nothing unsent")
            self.kill(a)
        start = time.monotonic()
        with open(b.path / "vm/disk", "r+b") as f:
            f.write(b"b")
        self.assertLess(time.monotonic() - start, LENGTH + 4)
        self.assertTrue(self.leases(b)["vm"]["mine"])

    def test_unsent_writes_keep_a_lease_until_it_is_broken(self):
        """"A holder that reported unsent writes loses its lease only to `slipway lease break`." and
        "What a mount that lost its lease had not sent goes into conflict copies." """
        a, b = self.mount("a"), self.mount("b", "lease_wait=1")
        with open(a.path / "vm/disk", "r+b", buffering=0) as f:
            f.write(b"never sent")
            os.fsync(f.fileno())
            wait_for(lambda: self.leases(b).get("vm", {}).get("unsent_bytes"), "the report")
            self.kill(a)
        time.sleep(LENGTH + 1)
        self.assert_errno(errno.EBUSY, lambda: open(b.path / "vm/disk", "r+b"))
        refused = run(testbed.SLIPWAY, "lease", "break", b.path, "vm", check=False,
                      stdin=subprocess.DEVNULL)
        self.assertNotEqual(refused.returncode, 0)
        broken = run(testbed.SLIPWAY, "lease", "break", "--yes", b.path, "vm")
        self.assertIn("held by user root on host", broken.stderr)
        with open(b.path / "vm/disk", "r+b") as f:
            f.write(b"b's write")
        run(testbed.SLIPWAY, "flush", b.path)
        a = self.mount("a")
        copies = wait_for(lambda: [p for p in (self.export / "vm").iterdir() if p.name != "disk"],
                          "a conflict copy")
        self.assertEqual(copies[0].read_bytes()[:10], b"never sent")
        self.assertEqual((self.export / "vm/disk").read_bytes()[:9], b"b's write")
        self.assertEqual([x["state"] for x in a.status()["leases"]], ["lost"])

    def test_a_lease_that_is_broken_under_an_open_file_is_lost(self):
        """"Files that were open for writing then fail further writes with ESTALE." """
        a, b = self.mount("a"), self.mount("b", "lease_wait=1")
        with open(a.path / "vm/disk", "r+b", buffering=0) as f:
            f.write(b"first")
            run(testbed.SLIPWAY, "flush", a.path)
            run(testbed.SLIPWAY, "lease", "break", "--yes", b.path, "vm")
            wait_for(lambda: a.status()["leases"][0]["state"] == "lost", "the loss")
            self.assert_errno(errno.ESTALE, lambda: f.write(b"second"))
        (b.path / "vm/disk").write_bytes(b"b")

    def test_the_same_clients_next_mount_takes_over_at_once(self):
        """"The next mount with the same cache takes the leases of the one before over at once." """
        a, b = self.mount("a"), self.mount("b", "lease_wait=1")
        with open(a.path / "vm/disk", "r+b", buffering=0) as f:
            f.write(b"unsent at the crash")
            os.fsync(f.fileno())
            epoch = a.status()["leases"][0]["epoch"]
            self.kill(a)
        a = self.mount("a")
        lease = wait_for(lambda: a.status()["leases"], "the lease")[0]
        self.assertEqual((lease["group"], lease["state"], lease["epoch"]), ("vm", "held", epoch))
        with open(a.path / "vm/disk", "r+b") as f:
            self.assertEqual(f.read(19), b"unsent at the crash")
            self.assert_errno(errno.EBUSY, lambda: open(b.path / "vm/disk", "r+b"))

    def test_leases_outlive_the_servers_process(self):
        """"Leases are records on the server's disk: they hold although its processes end." """
        a, b = self.mount("a"), self.mount("b", "lease_wait=1")
        with open(a.path / "vm/disk", "r+b", buffering=0) as f:
            f.write(b"a")
            for pid in testbed.server_processes(a.status()["pid"]):
                kill_pid(pid)
            self.assert_errno(errno.EBUSY, lambda: open(b.path / "vm/disk", "r+b"))
            f.write(b"A")
            run(testbed.SLIPWAY, "flush", a.path)
            self.assertEqual((self.export / "vm/disk").read_bytes()[:2], b"aA")
            self.assertEqual(a.status()["leases"][0]["state"], "held")

    def test_a_mount_without_leases_respects_those_of_others(self):
        """"With lease=no versions decide; but what such a mount writes waits while another mount
        holds the lease." """
        a, b = self.mount("a"), self.mount("b", "lease=no")
        with open(b.path / "vm/disk", "r+b", buffering=0) as f:
            with open(a.path / "vm/disk", "r+b"):
                self.assert_errno(errno.EBUSY, lambda: os.mkdir(b.path / "vm/new"))
                f.write(b"b")
                wait_for(lambda: "lease" in b.status()["writes"]["waiting_for"], "the wait")
            run(testbed.SLIPWAY, "flush", b.path)
        self.assertEqual((self.export / "vm/disk").read_bytes()[:1], b"b")

    def test_a_mount_of_a_deeper_directory_lies_in_one_group(self):
        """"A mount of a directory within a group has that one group." """
        (self.export / "vm/deep/er").mkdir(parents=True)
        a = self.mount("a", source=self.export / "vm/deep")
        b = self.mount("b", "lease_wait=1")
        (a.path / "file").write_text("x")
        with open(a.path / "er/file", "w") as f:
            f.write("y")
            self.assert_errno(errno.EBUSY, lambda: open(b.path / "vm/disk", "r+b"))
            self.assertEqual(list(self.leases(b)), ["vm"])


if __name__ == "__main__":
    reason = testbed.missing()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
