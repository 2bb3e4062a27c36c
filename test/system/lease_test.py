"""Leases: two mounts of one export, with a cache each, and who of them may write. Each test quotes
the sentences of docs/semantics.md ("Leases") that it checks."""

import errno
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import threading
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
        run(testbed.SLIPWAY, "umount", "-l", mount.path, check=False)  # tells what is unsent

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

    def test_a_lease_is_handed_over_at_once(self):
        """"The server tells a holder at once that its lease is wanted, and who waits that it is free." """
        os.environ["SLIPWAYD_LEASE_SECONDS"] = "60"  # renewals would tell after 10 s
        a, b = self.mount("a"), self.mount("b")
        for unsent in (0, 1 << 20):
            times = []
            for turn in range(7):
                one, other = (a, b) if turn % 2 == 0 else (b, a)
                with open(one.path / "vm/disk", "r+b") as f:
                    f.write(b"turn %d" % turn + os.urandom(unsent))
                if not unsent:
                    run(testbed.SLIPWAY, "flush", one.path)
                start = time.monotonic()
                with open(other.path / "vm/disk", "r+b") as f:
                    times.append(time.monotonic() - start)
                    self.assertEqual(f.read(6), b"turn %d" % turn)
            self.assertLess(statistics.median(times), 1, times)

    def test_a_lease_is_handed_over_when_the_file_is_closed(self):
        """Who waits while it is open has it soon after."""
        os.environ["SLIPWAYD_LEASE_SECONDS"] = "60"
        a, b = self.mount("a"), self.mount("b", "lease_wait=60")
        with open(a.path / "vm/disk", "r+b") as f:
            f.write(b"a")
            opened = threading.Thread(target=lambda: open(b.path / "vm/disk", "r+b").close())
            opened.start()
            wait_for(lambda: self.leases(a).get("vm", {}).get("wanted_by"), "the wish")
            time.sleep(1)
            self.assertTrue(opened.is_alive())
        start = time.monotonic()
        opened.join()
        self.assertLess(time.monotonic() - start, 3)

    def test_a_new_session_of_a_holder_tells_it_too(self):
        os.environ["SLIPWAYD_LEASE_SECONDS"] = "60"
        a, b = self.mount("a"), self.mount("b", "lease_wait=60")
        with open(a.path / "vm/disk", "r+b") as f:
            f.write(b"a")
        for pid in testbed.server_processes(a.status()["pid"]):
            kill_pid(pid)
        run(testbed.SLIPWAY, "flush", a.path)
        start = time.monotonic()
        with open(b.path / "vm/disk", "r+b") as f:
            self.assertEqual(f.read(1), b"a")
        self.assertLess(time.monotonic() - start, 4)

    def test_a_lease_is_handed_over_after_every_kind_of_change(self):
        """None of them forgets that it is over, whether it came to something or not."""
        a, b = self.mount("a"), self.mount("b")
        vm = a.path / "vm"
        with open(vm / "disk", "r+b", buffering=0) as f:
            os.fchmod(f.fileno(), 0o600)
            os.utime(f.fileno(), (1000, 1000))
            os.chmod(vm / "disk", 0o640)
            f.write(b"a")
            os.fchmod(f.fileno(), 0o644)
            f.truncate(5000)
            os.posix_fallocate(f.fileno(), 5000, 1000)
            os.fsync(f.fileno())
        os.utime(vm / "disk", (1000, 1000))
        os.truncate(vm / "disk", 6000)
        os.mkdir(vm / "new")
        os.symlink("disk", vm / "new/symlink")
        os.link(vm / "disk", vm / "new/link")
        os.unlink(vm / "new/symlink")
        with open(vm / "new/file", "xb") as f, open(vm / "disk", "rb") as disk:
            os.copy_file_range(disk.fileno(), f.fileno(), 100)
        os.rename(vm / "new/file", vm / "new/renamed")
        os.rename(vm / "new/renamed", vm / "new/link")
        fd = os.open(vm / "new", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        for number, call in ((errno.EEXIST, lambda: os.mkdir(vm / "new")),
                             (errno.EEXIST, lambda: open(vm / "disk", "xb")),
                             (errno.ENOTEMPTY, lambda: os.rmdir(vm / "new")),
                             (errno.ENOENT, lambda: os.unlink(vm / "nothing")),
                             (errno.ENOTDIR, lambda: os.rename(vm / "new", vm / "disk")),
                             (errno.EISDIR, lambda: open(vm / "new", "r+b"))):
            self.assert_errno(number, call)
        os.unlink(vm / "new/link")
        os.rmdir(vm / "new")
        with open(b.path / "vm/disk", "r+b") as f:
            self.assertEqual(f.read(1), b"a")

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
        "What a mount that lost its lease had not sent goes into its file if nobody else has changed
        that or holds the lease by then, else into a conflict copy." """
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
            self.write_until_refused(f)
            self.assertEqual(a.status()["leases"][0]["state"], "lost")
        (b.path / "vm/disk").write_bytes(b"b")

    def write_until_refused(self, file):
        """What was taken until the loss of the lease was known here."""
        taken = 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                taken += os.pwrite(file.fileno(), b"%8d" % taken, taken)
            except OSError as e:
                self.assertEqual(e.errno, errno.ESTALE)
                return b"".join(b"%8d" % at for at in range(0, taken, 8))
            time.sleep(0.001)
        self.fail("the writes go on")

    def test_who_goes_on_writing_when_the_lease_is_broken_loses_nothing(self):
        """"What a mount that lost its lease had not sent goes into its file if nobody else has
        changed that" and "A new open can write again once what was unsent is
        sent; until then it waits as for another mount's lease." """
        a, b = self.mount("a"), self.mount("b", "lease_wait=1")
        with open(a.path / "vm/disk", "r+b", buffering=0) as f:
            f.write(b"unsent")
            wait_for(lambda: self.leases(b).get("vm", {}).get("unsent_bytes"), "the report")
            broken = run(testbed.SLIPWAY, "lease", "break", "--yes", b.path, "vm")
            self.assertIn("are not on the server", broken.stderr)
            taken = self.write_until_refused(f)
            run(testbed.SLIPWAY, "flush", a.path)
            self.assertEqual((self.export / "vm/disk").read_bytes()[:len(taken)], taken)
            with open(a.path / "vm/disk", "r+b", buffering=0) as again:
                again.write(b"again")
            self.assert_errno(errno.ESTALE, lambda: f.write(b"never"))
        a.umount()
        was = taken or b"unsent00"  # when the loss was known before the first write
        self.assertEqual((self.export / "vm/disk").read_bytes()[:8], b"again" + was[5:8])
        self.assertEqual(os.listdir(self.export / "vm"), ["disk"])
        self.assertEqual(self.leases(b), {})

    def test_what_was_written_after_a_break_that_somebody_made_use_of_is_kept_beside_the_file(self):
        """"else into a conflict copy" """
        a, b = self.mount("a"), self.mount("b")
        with open(a.path / "vm/disk", "r+b", buffering=0) as f:
            f.write(b"unsent")
            wait_for(lambda: self.leases(b).get("vm", {}).get("unsent_bytes"), "the report")
            with testbed.stopped_server(a):  # so that it does not know of it at once
                run(testbed.SLIPWAY, "lease", "break", "--yes", b.path, "vm")
                with open(b.path / "vm/disk", "r+b") as other:
                    other.write(b"b's")
                run(testbed.SLIPWAY, "flush", b.path)
            taken = self.write_until_refused(f)
            run(testbed.SLIPWAY, "flush", a.path, check=False)  # tells of the conflict
            copies = [p for p in (self.export / "vm").iterdir() if p.name != "disk"]
            self.assertEqual([p.read_bytes()[:len(taken)] for p in copies], [taken])
            self.assertEqual((self.export / "vm/disk").read_bytes()[:4], b"b's0")
            with open(a.path / "vm/disk", "r+b", buffering=0) as again:
                again.write(b"a's again")
        self.assertEqual(a.umount(check=False).returncode, 34)
        self.assertEqual((self.export / "vm/disk").read_bytes()[:9], b"a's again")
        self.assertEqual(self.leases(b), {})

    def write_in_both(self, mount):
        """Well before a lease of its length here could expire."""
        start = time.monotonic()
        for group in ("vm", "other"):
            (mount.path / group / "disk").write_bytes(b"by another client")
        self.assertLess(time.monotonic() - start, 15)

    def leave_leases(self, unsent=b""):
        """A mount that held two leases when it was killed."""
        os.environ["SLIPWAYD_LEASE_SECONDS"] = "60"
        a = self.mount("a")
        for group in ("vm", "other"):
            (a.path / group / "disk").write_bytes(b"by the first")
        run(testbed.SLIPWAY, "flush", a.path)
        wait_for(lambda: [x["unsent_bytes"] for x in self.leases(a).values()] == [0, 0],
                 "that nothing is unsent")
        if unsent:
            with open(a.path / "vm/disk", "r+b", buffering=0) as f:
                f.write(unsent)
                os.fsync(f.fileno())
                self.kill(a)
        else:
            self.kill(a)
        return a

    def test_leases_of_a_mount_that_was_killed_are_given_back_by_the_next_one(self):
        """"A mount gives back at its end what it holds, and what an earlier mount with this cache
        left when it was killed." """
        self.leave_leases()
        a = self.mount("a")
        (a.path / "vm/disk").write_bytes(b"by the second")  # and nothing in the other one
        a.umount()
        b = self.mount("b")
        self.assertEqual(self.leases(b), {})
        self.write_in_both(b)

    def test_a_mount_without_leases_gives_back_those_of_an_earlier_one(self):
        self.leave_leases(unsent=b"unsent at the crash")
        a = self.mount("a", "lease=no")
        wait_for(lambda: self.leases(a) == {}, "the leases' end")
        self.assertEqual((self.export / "vm/disk").read_bytes()[:6], b"unsent")
        self.write_in_both(self.mount("b"))

    def test_recover_gives_back_leases_when_all_is_sent(self):
        """"`slipway recover` does the same." """
        a = self.leave_leases(unsent=b"unsent at the crash")
        run(testbed.SLIPWAY, "recover", a.cache)
        self.assertEqual((self.export / "vm/disk").read_bytes()[:6], b"unsent")
        b = self.mount("b")
        self.assertEqual(self.leases(b), {})
        self.write_in_both(b)

    def test_what_is_unsent_at_the_end_keeps_its_lease(self):
        """"Leases with unsent writes stay." """
        os.environ["SLIPWAYD_LEASE_SECONDS"] = "60"
        a, b = self.mount("a"), self.mount("b", "lease_wait=1")
        with open(a.path / "vm/disk", "r+b", buffering=0) as f:
            f.write(b"unsent")
            wait_for(lambda: self.leases(b).get("vm", {}).get("unsent_bytes"), "the report")
            wait_for(lambda: self.leases(b).get("vm", {}).get("unsent_bytes") == 0, "sent")
            f.write(b"unsent again")
            wait_for(lambda: self.leases(b).get("vm", {}).get("unsent_bytes"), "the report")
            pids = testbed.server_processes(a.status()["pid"])
            with testbed.stopped_server(a):
                f.close()
                run(testbed.SLIPWAY, "umount", "--detach", a.path, check=False)
            for pid in pids:  # what it was sent before it was stopped, it does now
                wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the session")
        self.assertGreater(self.leases(b)["vm"]["unsent_bytes"], 0)
        self.assert_errno(errno.EBUSY, lambda: open(b.path / "vm/disk", "r+b"))
        a = self.mount("a")
        a.umount()
        self.assertEqual(self.leases(b), {})

    def test_nothing_stays_on_the_server_when_leases_are_given_back(self):
        for kill in (False, True):
            a = self.mount("a")
            for i in range(40):
                (a.path / f"vm{i}").mkdir()
                if i % 8 == 0:
                    (a.path / f"vm{i}" / "disk").write_bytes(b"x")
                os.rename(a.path / f"vm{i}", a.path / f"moved{i}")
            if kill:
                for pid in testbed.server_processes(a.status()["pid"]):
                    kill_pid(pid)
            for i in range(40):
                if i % 8 == 0:
                    os.unlink(a.path / f"moved{i}" / "disk")
                os.rmdir(a.path / f"moved{i}")
            a.umount()
            self.assertEqual(os.listdir(self.export / ".slipway/leases"), [])

    def test_the_list_says_what_there_is(self):
        b = self.mount("b")
        self.assertIn("nobody holds a lease", run(testbed.SLIPWAY, "lease", "ls", b.path).stdout)
        self.assertIn("nobody holds a lease",
                      run(testbed.SLIPWAYD, "lease", "ls", self.export).stdout)
        self.leave_leases()
        b = self.leases(b)
        self.assertEqual({x["ours"] for x in b.values()}, {False})
        table = run(testbed.SLIPWAYD, "lease", "ls", self.export).stdout.splitlines()
        self.assertEqual(table[0].split(), ["GROUP", "HOLDER", "HELD", "FOR", "EXPIRES", "IN",
                                            "UNSENT", "STATE"])
        self.assertEqual(sorted(line.split()[0] for line in table[1:]), ["other", "vm"])

    def test_the_same_clients_next_mount_takes_over_at_once(self):
        """"The next mount with the same cache takes the leases of the one before over at once." """
        a, b = self.mount("a"), self.mount("b", "lease_wait=1")
        with open(a.path / "vm/disk", "r+b", buffering=0) as f:
            f.write(b"unsent at the crash")
            os.fsync(f.fileno())
            epoch = a.status()["leases"][0]["epoch"]
            self.kill(a)
        a = self.mount("a")
        lease = wait_for(lambda: [x for x in a.status()["leases"] if x["state"] == "held"],
                         "the lease")[0]
        self.assertEqual((lease["group"], lease["epoch"]), ("vm", epoch))
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
