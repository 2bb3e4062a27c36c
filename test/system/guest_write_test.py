"""A guest that writes: user-mode Linux lives on a disk on the mount, makes files and syncs them.
Its file system is what a power cut would have left, whatever dies."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
import writing
from testbed import Mount, TempTree, run, wait_for

# After each line "synced" the file must survive; every fourth file is removed again.
LOAD = """
i=0
while [ $i -lt {files} ]; do
  dd if=/dev/urandom of=/data/f$i bs=4k count=$((i % 7 * 20 + 5)) 2>/dev/null
  dd if=/dev/zero of=/data/scratch bs=64k count=$((i % 5 + 1)) 2>/dev/null
  [ $((i % 4)) = 3 ] && mv /data/f$i /data/g$i && rm /data/f$((i - 1))
  sync
  echo "synced $i $(cat /data/[fg]$i | md5sum)"
  i=$((i + 1))
done
mount -o remount,ro /
"""


class GuestWrites(unittest.TestCase):
    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        (self.dir / "export").mkdir()
        self.image = self.dir / "export/disk.img"

    def start(self, files, *options):
        """A mount with a guest that runs on it."""
        testbed.make_guest_image(self.image, size_mb=96, script=LOAD.format(files=files),
                                 payload_mb=0)
        self.mount = Mount(f"local:{self.dir}/export", self.dir,
                           [f"server_command={testbed.SLIPWAYD} session", *options])
        self.mount.__enter__()
        self.addCleanup(self.mount.__exit__)
        self.guest = subprocess.Popen(
            ["linux.uml", f"ubd0={self.mount.path}/disk.img", "root=/dev/ubda", "rw", "mem=96M",
             "con0=fd:0,fd:1", "con=null", "init=/init"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True)  # so that its threads end with it
        self.addCleanup(self.end_guest)
        self.synced = {}

    def end_guest(self):
        if self.guest.stdout.closed:
            return
        try:
            os.killpg(self.guest.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.note(self.guest.stdout.read())
        self.guest.wait()
        self.guest.stdout.close()

    def note(self, console):
        for number, digest in re.findall(r"synced (\d+) ([0-9a-f]{32})", console):
            self.synced[int(number)] = digest

    def run_until(self, condition):
        """Follows the guest's console until a condition holds after a line, or its end."""
        for line in self.guest.stdout:
            self.note(line)
            if condition(line):
                return True
        return False

    def check(self, image):
        """Checks a copy of the disk as after a power cut, and gives the files in it by number."""
        copy = self.dir / "checked.img"
        run("cp", "--sparse=always", image, copy)
        first = run("e2fsck", "-fp", copy, check=False)
        self.assertIn(first.returncode, (0, 1), first.stdout + first.stderr)
        again = run("e2fsck", "-fn", copy, check=False)
        self.assertEqual(again.returncode, 0, again.stdout)
        tree = self.dir / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        run("debugfs", "-R", f"rdump /data {tree}", copy)
        return {int(path.name[1:]): hashlib.md5(path.read_bytes()).hexdigest()
                for path in (tree / "data").iterdir() if path.name != "scratch"}

    def expected(self):
        """Synced files by number, without those that are removed, perhaps after the last sync."""
        return {number: digest for number, digest in self.synced.items() if number % 4 != 2}

    def test_what_a_guest_wrote_is_on_the_server_and_its_file_system_is_clean(self):
        self.start(24)
        self.assertTrue(self.run_until(lambda line: "done 42" in line))
        self.guest.wait(60)
        self.assertEqual(len(self.synced), 24)
        self.mount.umount()
        clean = run("e2fsck", "-fn", self.image, check=False)
        self.assertEqual(clean.returncode, 0, clean.stdout)
        self.assertEqual(self.check(self.image), self.expected())

    def test_a_killed_mount_loses_nothing_that_the_guest_has_synced(self):
        self.start(1000)
        self.assertTrue(self.run_until(lambda _: len(self.synced) >= 30))
        pid = self.mount.status()["pid"]
        self.assertGreater(self.mount.status()["writes"]["unsent_files"], 0)
        testbed.kill_pid(pid)
        self.end_guest()
        wait_for(lambda: testbed.is_dead(self.mount.path), "the mount to be dead")
        self.mount.__enter__()
        self.assertGreater(self.mount.status()["writes"]["recovered_bytes"], 0)
        here = self.check(self.mount.path / "disk.img")
        for number, digest in self.expected().items():
            self.assertEqual(here.get(number), digest, f"file {number} of {max(self.synced)}")
        writing.flush(self.mount)
        self.assertEqual(run("cmp", self.mount.path / "disk.img", self.image).stdout, "")
        self.assertEqual(self.check(self.image), here)
        self.assertEqual(self.mount.status()["writes"]["conflicts"], [])

    def test_after_the_loss_of_the_whole_cache_the_server_has_one_earlier_instant(self):
        self.start(1000)
        self.assertTrue(self.run_until(lambda _: len(self.synced) >= 10))
        first = self.mount.status()["writes"]["checkpoints"]
        flush = subprocess.Popen([testbed.SLIPWAY, "flush", self.mount.path],
                                 stdout=subprocess.DEVNULL)
        self.addCleanup(testbed.stop, flush)
        self.assertTrue(self.run_until(
            lambda _: self.mount.status()["writes"]["checkpoints"] >= first + 2))
        self.assertTrue(self.run_until(lambda line: "synced" in line))
        pid = self.mount.status()["pid"]
        self.assertGreater(self.mount.status()["writes"]["unsent_files"], 0)
        testbed.kill_pid(pid)
        self.end_guest()
        self.mount.umount(check=False)  # it says what is unsent
        shutil.rmtree(self.mount.cache)
        there = self.check(self.image)
        self.assertGreaterEqual(max(there), 5)
        last = max(there)
        for number, digest in self.synced.items():
            if number < last - 1 and number % 4 != 2:
                self.assertEqual(there.get(number), digest, f"file {number} of {last}")
        self.mount.__enter__()  # with an empty cache
        self.assertEqual(self.check(self.mount.path / "disk.img"), there)


if __name__ == "__main__":
    lack = testbed.missing() or (None if shutil.which("linux.uml") else "no user-mode-linux")
    if lack:
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
