"""Power cuts of the image server under a load of writes and names: what it has acknowledged is
there afterwards, of the rest all of a commit or nothing, and the client goes on without a conflict.
Without fsync the same check fails."""

import os
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import crashbed
import load
import server_cut
import testbed
from crashbed import RUNS, SEED, CrashBed
from testbed import SLIPWAYD, Mount

SLOTS = 61
SLOT = 4096  # bytes
CUTS = 12
POINTS = ("checkpoint-before-record", "checkpoint-after-record", "checkpoint-after-rename",
          "checkpoint-between-extents", "checkpoint-between-files", "checkpoint-before-applied",
          "checkpoint-after-applied", "checkpoint-after-unlink", "change-after-intent",
          "change-before-result")
MAKE_POINTS = ("checkpoint-before-makes", "checkpoint-between-makes", "checkpoint-after-makes",
               "checkpoint-before-directories")
SMALL_POINTS = ("checkpoint-small-made", "checkpoint-applied-written")  # where commits are in place


def block(number):
    return load.counter(number) * (SLOT // 512)


class ServerPowerCuts(CrashBed):
    """Write number n puts its number into slot n % SLOTS of one of two files of a group."""

    FILES = ()

    def setUp(self):
        super().setUp()
        testbed.slipwayd("init", self.export)
        self.shim = server_cut.build_shim(self.dir)
        self.trace = self.dir / "trace"
        (self.export / "vm/names/d0").mkdir(parents=True)
        self.files = ("vm/one", "vm/two")
        for name in self.files:
            (self.export / name).write_bytes(bytes(SLOTS * SLOT))
        self.last = self.renamed = self.boots = 0
        self.is_small = True

    def server(self):
        """The machine as it is between two cuts: it has a boot id, and is down when it has died."""
        script = self.dir / "server"
        script.write_text(f"""#!/bin/sh
[ ! -e {self.dir}/down ] || exit 1
[ ! -e {self.dir}/dies ] || : > {self.dir}/down
. {self.dir}/environment
exec unshare -m sh -c '
  mount --bind {self.dir}/boot_id /proc/sys/kernel/random/boot_id || exit 1
  LD_PRELOAD="$SHIM" exec {SLIPWAYD} "$@"' slipwayd "$@"
""")
        script.chmod(0o755)
        return f"{script} session"

    def boot(self, watched=None, syncs=True, fault=None):
        self.boots += 1
        (self.dir / "boot_id").write_text(f"00000000-0000-0000-0000-{self.boots:012}\n")
        lines = ["export SHIM="]
        if watched:
            self.trace.unlink(missing_ok=True)
            lines = [f"export SHIM={self.shim} POWER_CUT_TRACE={self.trace} "
                     f"POWER_CUT_DIRECTORY={watched}"]
            lines += [] if syncs else ["export POWER_CUT_NO_SYNC=1"]
            lines += [f"export SLIPWAY_FAULT={fault}"] if fault else []
            (self.dir / "dies").touch()
        else:
            (self.dir / "dies").unlink(missing_ok=True)
        (self.dir / "environment").write_text("\n".join(lines) + "\n")
        (self.dir / "down").unlink(missing_ok=True)

    def write(self, mount):
        """Until the mount is gone. Keeps the last number that returned, and that was acknowledged,
        and the last renaming that was synced."""
        random = crashbed.random.Random(self.random.random())
        try:
            files = [os.open(mount.path / name, os.O_RDWR) for name in self.files]
            while not self.ended.is_set():
                number = self.last + 1
                os.pwrite(files[number % 2], block(number), number % SLOTS * SLOT)
                self.last = number
                if random.random() < 0.05:
                    crashbed.sync_names(mount.path)
                    self.acknowledged = number
                if random.random() < 0.05:
                    names = mount.path / "vm/names"
                    os.rename(names / f"d{self.renamed}", names / f"d{self.renamed + 1}")
                    crashbed.sync_names(names)
                    self.renamed += 1  # now, since a cut may undo it before
        except OSError:
            pass

    def found(self, root):
        """The number up to which the writes are there. An error: they are no such row."""
        contents = [(root / name).read_bytes() for name in self.files]
        numbers = set()
        for slot in range(SLOTS):
            for content in contents:
                piece = content[slot * SLOT:(slot + 1) * SLOT]
                number = int.from_bytes(piece[:8], "little")
                if number != 0 or piece.count(0) != SLOT:
                    self.assertEqual(piece, block(number), f"seed {SEED}: write {number}")
                    numbers.add(number)
        reached = max(numbers, default=0)
        for number in range(max(1, reached - SLOTS + 1), reached + 1):
            self.assertIn(number, numbers, f"seed {SEED}: of {reached} writes")
        return reached

    def change_the_way(self):
        """Lets commits go the way of small ones, or that of large ones: where the names of the
        files for small ones are taken."""
        self.is_small = self.random.random() < 0.7
        for group in self.export.glob(".slipway/journal/*/*-*"):
            for name in ("small-commit", "small-applied"):
                path = group / name
                if path.is_dir():
                    path.rmdir()
                path.unlink(missing_ok=True)
                if not self.is_small:
                    path.mkdir()

    def start(self, syncs=True, fault=None):
        """A mount of the server from when it has power to the cut."""
        self.boot(self.export, syncs, fault)
        mount = Mount(f"local:{self.export}", self.dir,
                      [f"server_command={self.server()}", "lease=no"])
        mount.__enter__()
        self.addCleanup(mount.__exit__)
        return mount

    def run_to_a_cut(self, syncs=True):
        """Writes until the server's power is cut. The mount, what happened, how much is lost."""
        fault = self.random.choice((None, *POINTS, *(SMALL_POINTS if self.is_small else ())))
        what = f"seed {SEED}, {fault}, small {self.is_small}"
        count = 1 if fault == "checkpoint-small-made" else self.random.randrange(1, 12)
        fault = fault and f"{fault}@{count}"
        mount = self.start(syncs, fault)
        pid = mount.status()["pid"]
        servers = testbed.server_processes(pid)
        self.ended = threading.Event()
        first, self.acknowledged = self.last, 0
        writer = threading.Thread(target=self.write, args=(mount,))
        writer.start()
        if fault:
            testbed.wait_for(lambda: any(crashbed.has_ended(p) for p in servers), fault, 60)
        else:
            testbed.wait_for(lambda: self.last > first + 2 * SLOTS, "writes", 60)
            self.ended.wait(self.random.uniform(0, 0.5))
        for server in servers:
            testbed.kill_pid(server)
        testbed.kill_pid(pid)
        self.ended.set()
        writer.join()
        if syncs and self.random.random() < 0.5:
            what += self.recover_in_part()
        lost = server_cut.cut(self.export, self.trace, self.random)
        self.boot()
        return mount, what, lost

    def recover_in_part(self):
        """What a process wrote that was killed is not on the disk for that: who finishes its commit
        must not rely on it. How far that came."""
        fault = self.random.choice(("checkpoint-between-extents", "checkpoint-between-files",
                                    "checkpoint-before-applied", "checkpoint-applied-written"))
        done = subprocess.run(
            [SLIPWAYD, "recover", self.export], check=False, timeout=60, capture_output=True,
            env={**os.environ, "LD_PRELOAD": str(self.shim), "POWER_CUT_TRACE": str(self.trace),
                 "POWER_CUT_DIRECTORY": str(self.export), "POWER_CUT_AFTER": str(1 << 40),
                 "SLIPWAY_FAULT": fault})
        return f", then recovered up to {fault} ({done.returncode})"

    def check_after_cut(self, mount, what):
        """Once the server is up, and then the client. How far the server was behind."""
        done = subprocess.run([SLIPWAYD, "recover", self.export], check=False, text=True,
                              capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr.count("refused-")), (0, 0),
                         what + done.stderr)
        reached = self.found(self.export)
        self.assertGreaterEqual(reached, self.acknowledged, what)
        mount.__enter__()
        crashbed.sync_names(mount.path)
        after = self.found(mount.path)
        self.assertEqual(self.found(self.export), after, what)
        self.assertGreaterEqual(after, self.last, what)
        (name,) = os.listdir(self.export / "vm/names")
        self.assertIn(name, (f"d{self.renamed}", f"d{self.renamed + 1}"), what)
        self.check_no_conflicts(what)
        mount.umount()
        self.renamed = int(name[1:])
        behind, self.last = self.last - reached, after
        return behind

    def test_after_a_power_cut_of_the_server_what_it_acknowledged_is_there(self):
        lost = behind = 0
        for _ in range(CUTS * RUNS):
            mount, what, lost_now = self.run_to_a_cut()
            behind += self.check_after_cut(mount, what)
            lost += lost_now
            self.change_the_way()
        print(f"seed {SEED}: {lost} pages and names went with the power; the server was "
              f"{behind} writes behind", file=sys.stderr)
        self.assertGreater(lost, 0)

    def test_a_change_that_a_local_process_made_after_an_acknowledged_one_stays(self):
        """Recovery must know of each answered commit that it was applied."""
        for number in range(CUTS * RUNS):
            mount = self.start()
            pid = mount.status()["pid"]
            with open(mount.path / self.files[0], "r+b", buffering=0) as file:
                for write in range(self.random.randrange(1, 4)):
                    os.pwrite(file.fileno(), block(100 * number + write + 1), 0)
                    crashbed.sync_names(mount.path)
            later = block(100 * number + 99)
            with open(self.export / self.files[0], "r+b", buffering=0) as file:
                file.write(later)
                os.fsync(file.fileno())
            for server in testbed.server_processes(pid):
                testbed.kill_pid(server)
            testbed.kill_pid(pid)
            server_cut.cut(self.export, self.trace, self.random)
            self.boot()
            done = subprocess.run([SLIPWAYD, "recover", self.export], check=False, timeout=60)
            self.assertEqual(done.returncode, 0)
            self.assertEqual((self.export / self.files[0]).read_bytes()[:SLOT], later,
                             f"seed {SEED}, cut {number}, small {self.is_small}")
            mount.__enter__()
            mount.umount()
            self.change_the_way()

    def make(self, mount):
        """Until the mount is gone: directories with a file each, whose number is in it. Under the
        lease, so that they are made in commits."""
        random = crashbed.random.Random(self.random.random())
        try:
            while not self.ended.is_set():
                number = self.last + 1
                made = mount.path / f"vm/names/made/{number}"
                made.mkdir(parents=True, exist_ok=True)  # begun before the cut
                (made / "file").write_bytes(block(number))
                self.last = number
                if random.random() < 0.3:
                    crashbed.sync_names(mount.path)
                    self.acknowledged = number
        except OSError:
            pass

    def found_made(self, root, done):
        """The number up to which they are there, each of them whole; of those after `done` the highest
        may have been cut in the middle, and then counts as none."""
        made = root / "vm/names/made"
        numbers = sorted(int(name) for name in os.listdir(made)) if made.exists() else []
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)), f"seed {SEED}")
        if numbers and numbers[-1] > done:
            file = made / str(numbers[-1]) / "file"
            if not file.exists() or file.read_bytes() != block(numbers[-1]):
                numbers.pop()
        for number in numbers:
            self.assertEqual(os.listdir(made / str(number)), ["file"], f"seed {SEED}, {number}")
            self.assertEqual((made / str(number) / "file").read_bytes(), block(number))
        return len(numbers)

    def test_after_a_power_cut_of_the_server_the_names_that_commits_made_are_there(self):
        lost = made_in_commits = 0
        for _ in range(CUTS // 2 * RUNS):
            before = self.last
            fault = self.random.choice((None, *POINTS[:8], *MAKE_POINTS, *MAKE_POINTS))
            what = f"seed {SEED}, {fault}, small {self.is_small}"
            self.boot(self.export, True, fault and f"{fault}@{self.random.randrange(1, 6)}")
            mount = Mount(f"local:{self.export}", self.dir, [f"server_command={self.server()}"])
            mount.__enter__()
            self.addCleanup(mount.__exit__)
            self.addCleanup(self.boot)  # before that, when the check has failed
            pid = mount.status()["pid"]
            servers = testbed.server_processes(pid)
            self.ended, self.acknowledged = threading.Event(), 0
            maker = threading.Thread(target=self.make, args=(mount,))
            maker.start()
            testbed.wait_for(lambda: any(crashbed.has_ended(p) for p in servers) or
                             (not fault and self.last > before + 20), what, 60)
            for process in (*servers, pid):
                testbed.kill_pid(process)
            self.ended.set()
            maker.join()
            lost += server_cut.cut(self.export, self.trace, self.random)
            self.boot()
            done = subprocess.run([SLIPWAYD, "recover", self.export], check=False, text=True,
                                  capture_output=True, timeout=60)
            self.assertEqual((done.returncode, done.stderr.count("refused-")), (0, 0),
                             what + done.stderr)
            reached = self.found_made(self.export, self.acknowledged)
            self.assertGreaterEqual(reached, self.acknowledged, what)
            mount.__enter__()
            crashbed.sync_names(mount.path)
            after = self.found_made(mount.path, self.last)
            self.assertGreaterEqual(after, self.last, what)
            self.assertEqual(self.found_made(self.export, self.last), after, what)
            self.last = after
            self.check_no_conflicts(what)
            made_in_commits += len(list(self.export.glob(".slipway/journal/*/*/prepared/*")))
            mount.umount()
            self.change_the_way()
        print(f"seed {SEED}: {lost} pages and names went with the power, {self.last} were made",
              file=sys.stderr)
        self.assertGreater(lost, 0)
        self.assertGreater(made_in_commits, 0)

    def test_without_syncs_the_same_check_finds_the_loss(self):
        failed = 0
        for _ in range(5):
            mount, what, _ = self.run_to_a_cut(syncs=False)
            try:
                self.check_after_cut(mount, what)
            except (AssertionError, OSError, RuntimeError, ValueError):
                failed += 1
                break  # what is there is no state of the files any more
        self.assertGreater(failed, 0)


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
