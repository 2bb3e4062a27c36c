"""What brings unsent writes to the server, and when: flush, invalidate, signals, unmounting in all its
forms, recover; and what is said about it."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import SLIPWAY, Mount, TempTree, run, stopped_server, wait_for

UNSENT = 33
CONFLICT = 34


def has_ended(pid):
    try:
        return "\nState:\tZ" in pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


class WriteBack(unittest.TestCase):
    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        self.export = self.dir / "export"
        self.export.mkdir()
        (self.export / "disk").write_bytes(b"old" * 1000)
        # A server that is stopped is not asked for a lease either.
        self.old_state = os.environ.get("XDG_STATE_HOME")
        os.environ["XDG_STATE_HOME"] = str(self.dir / "state")
        self.addCleanup(self.restore_state)

    def restore_state(self):
        if self.old_state is None:
            os.environ.pop("XDG_STATE_HOME", None)
        else:
            os.environ["XDG_STATE_HOME"] = self.old_state

    def mount(self, *options, name="mnt", cache="cache", **kwargs):
        m = Mount(f"local:{self.export}", self.dir,
                  [f"server_command={testbed.SLIPWAYD} session", *options], name=name, **kwargs)
        m.cache = self.dir / cache
        m.__enter__()
        self.addCleanup(m.__exit__)
        return m

    def unsent(self, m):
        return m.status()["writes"]["unsent_bytes"]

    def write(self, m, content, name="disk"):
        """Leaves the file open, for its close starts to send."""
        fd = os.open(m.path / name, os.O_RDWR)
        self.addCleanup(os.close, fd)
        os.pwrite(fd, content, 0)
        self.assertGreater(self.unsent(m), 0)
        return fd

    def test_flush_returns_when_the_server_has_what_was_written(self):
        m = self.mount()
        self.write(m, b"new" * 1000)
        self.assertEqual((self.export / "disk").read_bytes(), b"old" * 1000)
        run(SLIPWAY, "flush", m.path / "disk")
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)
        self.assertEqual(self.unsent(m), 0)

    def test_flush_with_a_timeout_says_what_is_left(self):
        m = self.mount()
        self.write(m, b"new" * 1000)
        with stopped_server(m):
            told = run(SLIPWAY, "flush", "--timeout", "0.5", m.path, check=False)
            self.assertEqual(told.returncode, UNSENT)
            self.assertIn("2.9 KiB are not on the server yet", told.stderr)
        run(SLIPWAY, "flush", m.path)
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)

    def test_flush_of_something_else_is_refused_by_name(self):
        told = run(SLIPWAY, "flush", self.dir, check=False)
        self.assertEqual(told.returncode, 32)
        self.assertIn("is not in a slipway mount", told.stderr)

    def test_writes_go_by_themselves_after_a_few_seconds(self):
        m = self.mount()
        self.write(m, b"new" * 1000)
        started = time.monotonic()
        wait_for(lambda: self.unsent(m) == 0, "the writes to be sent", timeout=15)
        self.assertGreater(time.monotonic() - started, 2)
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)

    def test_sigusr1_writes_back_and_sigusr2_invalidates_too(self):
        m = self.mount("consistency=session")
        pid = m.status()["pid"]
        self.write(m, b"new" * 1000)
        os.kill(pid, signal.SIGUSR1)
        wait_for(lambda: (self.export / "disk").read_bytes() == b"new" * 1000, "the write")
        (self.export / "other").write_text("one")
        self.assertEqual(os.stat(m.path / "other").st_size, 3)
        (self.export / "other").write_text("three")
        self.assertEqual(os.stat(m.path / "other").st_size, 3, "believed for the session")
        os.kill(pid, signal.SIGUSR2)
        wait_for(lambda: os.stat(m.path / "other").st_size == 5, "the new size")

    def test_invalidate_shows_what_others_have_changed(self):
        m = self.mount("consistency=session")
        (self.export / "other").write_text("one")
        self.assertEqual(os.stat(m.path / "other").st_size, 3)
        (self.export / "other").write_text("three")
        self.assertEqual(os.stat(m.path / "other").st_size, 3)
        run(SLIPWAY, "invalidate", m.path / "other")
        self.assertEqual(os.stat(m.path / "other").st_size, 5)
        self.assertEqual((m.path / "other").read_text(), "three")

    def test_write_through_returns_when_the_server_has_it(self):
        m = self.mount("write=through")
        fd = os.open(m.path / "disk", os.O_RDWR)
        os.pwrite(fd, b"new" * 1000, 0)
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)
        os.close(fd)

    def test_durability_remote_makes_fsync_wait_for_the_server(self):
        m = self.mount("durability=remote")
        fd = self.write(m, b"new" * 1000)
        os.fsync(fd)
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)

    def test_fsync_does_not_wait_for_the_server(self):
        m = self.mount()
        fd = self.write(m, b"new" * 1000)
        with stopped_server(m):
            os.fsync(fd)
            self.assertEqual(os.pread(fd, 6, 0), b"newnew")
        self.assertEqual((self.export / "disk").read_bytes(), b"old" * 1000)

    def test_umount_drains(self):
        m = self.mount()
        fd = os.open(m.path / "disk", os.O_RDWR)
        os.pwrite(fd, b"new" * 1000, 0)
        self.assertGreater(self.unsent(m), 0)
        os.close(fd)
        m.umount()
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)

    def leave_unsent(self, m, *command):
        """Unmounts while the server does not answer; what the command said."""
        fd = os.open(m.path / "disk", os.O_RDWR)
        with stopped_server(m):
            os.pwrite(fd, b"new" * 1000, 0)
            self.assertGreater(self.unsent(m), 0)
            os.close(fd)
            return run(*command, check=False)

    def test_umount_with_a_timeout_says_what_is_left_and_its_process_goes_on(self):
        m = self.mount()
        told = self.leave_unsent(m, SLIPWAY, "umount", "--timeout", "0.5", m.path)
        self.assertEqual(told.returncode, UNSENT)
        self.assertIn("are NOT on the server yet", told.stderr)
        self.assertFalse(os.path.ismount(m.path))
        wait_for(lambda: (self.export / "disk").read_bytes() == b"new" * 1000, "the write")

    def test_umount_detach_leaves_the_log_which_the_next_mount_sends(self):
        m = self.mount()
        told = self.leave_unsent(m, SLIPWAY, "umount", "--detach", m.path)
        self.assertEqual(told.returncode, UNSENT)
        self.assertIn("NOT on the server", told.stderr)
        self.assertIn(str(m.cache), told.stderr)
        self.assertEqual((self.export / "disk").read_bytes(), b"old" * 1000)
        m.__enter__()
        self.assertEqual((m.path / "disk").read_bytes(), b"new" * 1000)
        wait_for(lambda: self.unsent(m) == 0, "what was found to be sent")
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)

    def test_recover_sends_what_a_mount_has_left(self):
        m = self.mount()
        self.leave_unsent(m, SLIPWAY, "umount", "--detach", m.path)
        told = run(SLIPWAY, "recover", m.cache)
        self.assertIn("2.9 KiB sent", told.stdout)
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)
        self.assertIn("0 B sent", run(SLIPWAY, "recover", m.cache).stdout)

    def test_recover_lists_caches_with_unsent_writes(self):
        base = pathlib.Path("/var/lib/slipway") / f"test-{os.getpid()}"
        self.addCleanup(shutil.rmtree, base, ignore_errors=True)
        base.parent.mkdir(mode=0o700, exist_ok=True)
        m = self.mount(cache=base)
        self.leave_unsent(m, SLIPWAY, "umount", "--detach", m.path)
        told = run(SLIPWAY, "recover", "--json", check=False)
        self.assertEqual(told.returncode, UNSENT)
        found = [entry for entry in json.loads(told.stdout) if entry["cache"] == str(base)]
        self.assertEqual(found, [{"cache": str(base), "source": f"local:{self.export}",
                                  "unsent_bytes": 3000, "unsent_files": 1}])
        run(SLIPWAY, "recover", base)

    def crash_with_unsent(self, m):
        """Kills the mount's process while the server does not answer."""
        fd = os.open(m.path / "disk", os.O_RDWR)
        with stopped_server(m):
            os.pwrite(fd, b"new" * 1000, 0)
            self.assertGreater(self.unsent(m), 0)
            testbed.kill_pid(m.status()["pid"])
        with contextlib.suppress(OSError):
            os.close(fd)

    def listed(self, cache):
        told = run(SLIPWAY, "recover", "--json", check=False)
        return [entry for entry in json.loads(told.stdout) if entry["cache"] == str(cache)]

    def test_umount_of_a_mount_that_was_killed_says_what_is_unsent(self):
        m = self.mount()
        self.crash_with_unsent(m)
        told = run(SLIPWAY, "flush", m.path, check=False)
        self.assertEqual(told.returncode, 32)
        self.assertIn("has died", told.stderr)
        told = run(SLIPWAY, "umount", m.path, check=False)
        self.assertEqual(told.returncode, UNSENT)
        self.assertIn("2.9 KiB of writes to 1 file are NOT on the server", told.stderr)
        self.assertIn("mounted again", told.stderr)
        self.assertIn(f"slipway recover {m.cache}", told.stderr)
        self.assertFalse(os.path.ismount(m.path))
        # The cache is not in the usual place, but is known.
        self.assertEqual(self.listed(m.cache), [{"cache": str(m.cache), "unsent_bytes": 3000,
                                                 "source": f"local:{self.export}",
                                                 "unsent_files": 1}])
        told = json.loads(run(SLIPWAY, "recover", "--json", m.cache).stdout)
        self.assertEqual(told, {"cache": str(m.cache), "source": f"local:{self.export}",
                                "sent_bytes": 3000, "unsent_bytes": 0, "unsent_files": 0,
                                "conflicts": []})
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)
        self.assertEqual(self.listed(m.cache), [])
        m.__enter__()
        m.umount()

    def test_umount_of_a_mount_that_was_killed_and_recovered_has_nothing_to_say(self):
        m = self.mount()
        self.crash_with_unsent(m)
        run(SLIPWAY, "recover", m.cache)
        told = run(SLIPWAY, "umount", m.path)
        self.assertEqual(told.stderr, "")
        m.__enter__()
        testbed.kill_pid(m.status()["pid"])
        self.assertEqual(run(SLIPWAY, "umount", m.path).stderr, "", "nothing was unsent")

    def test_a_mount_over_a_killed_one_with_another_cache_says_what_that_left(self):
        m = self.mount()
        self.crash_with_unsent(m)
        first, m.cache = m.cache, self.dir / "second"
        m.__enter__()
        self.assertIn(f"slipway recover {first}", m.result.stderr)
        m.umount()
        run(SLIPWAY, "recover", first)
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)

    def conflict(self, m):
        """Somebody else changes a file that has unsent writes here."""
        fd = os.open(m.path / "disk", os.O_RDWR)
        os.pwrite(fd, b"mine", 0)
        with open(self.export / "disk", "r+b") as there:
            there.write(b"theirs")
        return fd

    def test_flush_and_invalidate_tell_of_conflicts_once(self):
        for command in ("flush", "invalidate"):
            with self.subTest(command=command):
                m = self.mount("lease=no", name=command, cache=f"cache-{command}")
                fd = self.conflict(m)
                told = run(SLIPWAY, command, m.path, check=False)
                os.close(fd)
                self.assertEqual(told.returncode, CONFLICT)
                self.assertIn(": 1 conflict:", told.stderr)
                self.assertIn("disk.conflict-", told.stderr)
                run(SLIPWAY, command, m.path)
                told = run(SLIPWAY, "umount", m.path, check=False)
                self.assertEqual(told.returncode, CONFLICT, "of the whole mount")
                self.assertIn("disk.conflict-", told.stderr)
                for copy in self.export.glob("*.conflict-*"):
                    copy.unlink()

    def test_umount_tells_of_a_conflict_that_comes_with_the_last_checkpoint(self):
        m = self.mount("lease=no", "io_timeout=1")
        fd = os.open(m.path / "disk", os.O_RDWR)
        with stopped_server(m):
            os.pwrite(fd, b"mine", 0)
            with open(self.export / "disk", "r+b") as there:
                there.write(b"theirs")
            os.close(fd)
            umount = subprocess.Popen([SLIPWAY, "umount", m.path], stderr=subprocess.PIPE, text=True)
            self.addCleanup(testbed.stop, umount)
            table = pathlib.Path("/proc/self/mountinfo")
            wait_for(lambda: str(m.path) not in table.read_text(), "the mountpoint to be free")
        told = umount.communicate(timeout=60)[1]
        self.assertEqual(umount.returncode, CONFLICT)
        self.assertIn("disk.conflict-", told)

    def test_umount_tells_what_is_unsent_when_the_process_is_killed_meanwhile(self):
        m = self.mount()
        pid = m.status()["pid"]
        fd = os.open(m.path / "disk", os.O_RDWR)
        with stopped_server(m):
            os.pwrite(fd, b"new" * 1000, 0)
            os.close(fd)
            umount = subprocess.Popen([SLIPWAY, "umount", m.path], stderr=subprocess.PIPE, text=True)
            self.addCleanup(testbed.stop, umount)
            table = pathlib.Path("/proc/self/mountinfo")
            wait_for(lambda: str(m.path) not in table.read_text(), "the mountpoint to be free")
            testbed.kill_pid(pid)
        told = umount.communicate(timeout=60)[1]
        self.assertEqual(umount.returncode, UNSENT)
        self.assertIn(f"slipway recover {m.cache}", told)
        run(SLIPWAY, "recover", m.cache)

    def test_a_log_that_is_larger_than_the_disk_is_told_at_the_mount(self):
        m = self.mount("log_size=1000T")
        self.assertIn("log_size is 1000.0 TiB, but", m.result.stderr)
        self.assertEqual(m.result.stderr.count("\n"), 1)
        self.assertEqual(self.mount(name="other", cache="cache-2").result.stderr, "")

    def test_status_says_who_may_write_and_what_waits(self):
        m = self.mount()
        self.assertIn("access     writable\n", run(SLIPWAY, "status", m.path).stdout)
        self.assertIs(m.status()["writable"], True)
        ro = self.mount("ro", name="ro", cache="cache-2")
        self.assertIn("access     read-only (mounted with -o ro)\n",
                      run(SLIPWAY, "status", ro.path).stdout)
        self.assertIs(ro.status()["writable"], False)
        self.assertEqual(ro.status()["read_only_why"], "mounted with -o ro")
        self.assertIn("0 B unsent in 0 files", run(SLIPWAY, "status", m.path).stdout)
        self.write(m, b"new" * 1000)
        self.assertIn("2.9 KiB unsent in 1 file,", run(SLIPWAY, "status", m.path).stdout)

    def test_a_timeout_that_is_no_time_is_refused_with_its_range(self):
        for command in ("umount", "flush", "invalidate"):
            for bad in ("soon", "-1", "inf", "nan", "1e9"):
                told = run(SLIPWAY, command, f"--timeout={bad}", self.dir, check=False)
                self.assertEqual(told.returncode, 1, (command, bad))
                self.assertIn("from 0 to 1000000", told.stderr)

    def test_a_path_below_a_link_to_a_mount_is_a_path_of_the_mount(self):
        m = self.mount()
        self.write(m, b"new" * 1000)
        (self.dir / "link").symlink_to(m.path)
        run(SLIPWAY, "flush", self.dir / "link" / "disk")
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)

    def test_a_remount_takes_over_from_a_process_that_still_sends(self):
        m = self.mount("io_timeout=1")  # umount(8) looks at the mount, which has to ask the server
        pid = m.status()["pid"]
        fd = os.open(m.path / "disk", os.O_RDWR)
        with stopped_server(m):
            os.pwrite(fd, b"new" * 1000, 0)
            os.close(fd)
            run("umount", m.path)
            self.assertTrue(pathlib.Path(f"/proc/{pid}").exists(), "it stays to send")
            m.__enter__()
            wait_for(lambda: has_ended(pid), "the process whose cache the new one has")
            self.assertEqual((m.path / "disk").read_bytes(), b"new" * 1000)
        wait_for(lambda: self.unsent(m) == 0, "what was found to be sent")
        self.assertEqual((self.export / "disk").read_bytes(), b"new" * 1000)

    def test_a_cache_with_unsent_writes_is_not_used_for_another_export(self):
        m = self.mount()
        self.leave_unsent(m, SLIPWAY, "umount", "--detach", m.path)
        (self.dir / "elsewhere").mkdir()
        other = Mount(f"local:{self.dir}/elsewhere", self.dir,
                      [f"server_command={testbed.SLIPWAYD} session"], name="other", check=False)
        other.cache = m.cache
        with other:
            self.assertEqual(other.result.returncode, 32)
            self.assertIn("unsent writes to another export", other.result.stderr)

    def test_writers_that_find_the_log_full_go_at_the_speed_of_the_server(self):
        m = self.mount("log_size=8M")
        chunk = os.urandom(1 << 20)
        with open(m.path / "disk", "r+b", buffering=0) as f:
            for i in range(40):
                f.write(chunk)
        run(SLIPWAY, "flush", m.path)
        self.assertEqual((self.export / "disk").read_bytes(), chunk * 40)
        self.assertLessEqual(m.status()["writes"]["log_bytes"], 12 << 20)

    def test_refused_writes_that_this_disk_can_not_keep_wait_and_stop_no_others(self):
        (self.export / "other").write_bytes(b"old")
        m = self.mount()
        self.write(m, b"new" * 1000)
        self.write(m, b"new", "other")
        (m.cache / "refused").write_text("a file where the directory should be")
        if run("chattr", "+i", self.export, self.export / "disk", check=False).returncode != 0:
            self.skipTest("no immutable files here")
        self.addCleanup(run, "chattr", "-i", self.export, self.export / "disk")
        run(SLIPWAY, "flush", m.path)
        self.assertEqual((self.export / "other").read_bytes(), b"new")
        writes = m.status()["writes"]
        self.assertEqual((writes["unsent_files"], writes["unsent_bytes"]), (1, 3000))
        self.assertIn("refused by the server and can't be kept", writes["waiting_for"])
        (m.cache / "refused").unlink()
        wait_for(lambda: self.unsent(m) == 0, "what was refused to be kept", timeout=40)
        kept = list((m.cache / "refused").iterdir())
        self.assertEqual([path.read_bytes() for path in kept], [b"new" * 1000])
        self.assertIn(str(kept[0]), m.status()["writes"]["conflicts"][0])

    def test_a_damaged_record_is_an_alarm_of_its_file_and_stops_no_other(self):
        """A damaged record of the write log is an alarm of its file, and stops no other."""
        (self.export / "other").write_bytes(b"old")
        m = self.mount()
        damaged, whole = os.urandom(3000), os.urandom(3000)
        fds = [os.open(m.path / name, os.O_RDWR) for name in ("disk", "other")]
        with stopped_server(m):
            os.pwrite(fds[0], damaged, 0)
            os.pwrite(fds[0], whole, 100_000)
            os.pwrite(fds[1], whole, 0)
            os.fsync(fds[1])
            testbed.kill_pid(m.status()["pid"])
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        log = next((m.cache / "log").glob("*.log"))
        at = log.read_bytes().index(damaged)
        with open(log, "r+b") as f:
            f.seek(at + 1234)
            f.write(bytes([damaged[1234] ^ 1]))
        m.__enter__()
        wait_for(lambda: m.status()["writes"]["unsent_files"] == 0, "the rest to be sent")
        self.assertEqual((self.export / "other").read_bytes(), whole)
        self.assertEqual((self.export / "disk").read_bytes(), b"old" * 1000, "not half of it")
        (kept,) = (m.cache / "refused").iterdir()
        self.assertEqual(kept.read_bytes()[100_000:], whole, "what can be read is kept")
        (line,) = m.status()["writes"]["conflicts"]
        self.assertIn("damaged", line)
        self.assertIn(str(kept), line)

    def test_who_waits_for_the_server_can_be_killed(self):
        (self.export / "dir").mkdir()
        m = self.mount("durability=remote")
        program = ("import os, sys\n"
                   "fd = os.open('disk', os.O_RDWR)\n"
                   "os.pwrite(fd, b'new', 0)\n"
                   "print('ready', flush=True)\n"
                   "sys.stdin.readline()\n"
                   "{}\n")
        for wait in ("os.rename('dir', 'dir2')", "os.fsync(fd)", "os.mkdir('dir3')"):
            with self.subTest(wait=wait):
                child = subprocess.Popen([sys.executable, "-c", program.format(wait)], cwd=m.path,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                child.stdout.readline()
                with stopped_server(m):
                    child.stdin.write(b"\n")
                    child.stdin.flush()
                    time.sleep(0.5)
                    self.assertIsNone(child.poll(), "it waits")
                    child.kill()
                    child.wait(5)
                child.stdin.close()
                child.stdout.close()
                run(SLIPWAY, "flush", m.path)

    def test_a_read_only_mount_changes_nothing_but_sends_what_was_left(self):
        m = self.mount()
        self.leave_unsent(m, SLIPWAY, "umount", "--detach", m.path)
        m.options.append("ro")
        m.__enter__()
        with self.assertRaises(OSError):
            open(m.path / "disk", "r+b")
        self.assertEqual((m.path / "disk").read_bytes(), b"new" * 1000)
        wait_for(lambda: (self.export / "disk").read_bytes() == b"new" * 1000, "the write")


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
