"""Commits that a dead server has left half done: whoever comes next of the same user, and `slipwayd
recover`, finishes them."""

import os
import shutil
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import crashbed
import testbed
from testbed import SLIPWAYD, Mount, TempTree

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
OLD, NEW = b"old" * 1000, b"new" * 1000


def flush_quietly(path):
    try:
        crashbed.sync_names(path)
    except OSError:
        pass  # it has been killed


class Recovery(unittest.TestCase):
    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        state = crashbed.environment(XDG_STATE_HOME=self.dir / "state", SLIPWAY_FAULT=None)
        state.__enter__()
        self.addCleanup(state.__exit__, None, None, None)
        os.chmod(self.dir, 0o755)
        self.export = self.dir / "export"
        self.export.mkdir()
        testbed.slipwayd("init", self.export)
        self.files = [self.export / "vm/group" / name for name in ("one", "two")]

    def make_files(self, owner=0):
        self.files[0].parent.mkdir(parents=True)
        for file in self.files:
            file.write_bytes(OLD)
        for path in (*self.files, self.files[0].parent, self.files[0].parent.parent):
            os.chown(path, owner, owner)

    def server(self, *wrap):
        """Dies in the middle of its first commit, and is not to be had afterwards."""
        script = self.dir / "server"
        script.write_text(f"""#!/bin/sh
if [ -e {self.dir}/down ]; then exit 1; fi
: > {self.dir}/down
export SLIPWAY_FAULT=checkpoint-between-extents@2
exec {' '.join(wrap)} {SLIPWAYD} "$@"
""")
        script.chmod(0o755)
        return f"{script} session"

    def crash(self, *wrap, below=""):
        """Leaves one file new and one old, with nobody there who would finish it."""
        m = Mount(f"local:{self.export / below}", self.dir,
                  [f"server_command={self.server(*wrap)}", "lease=no"])
        with m:
            pid = m.status()["pid"]
            servers = testbed.server_processes(pid)
            inside = m.path / self.files[0].parent.relative_to(self.export / below)
            files = [open(inside / file.name, "r+b", buffering=0) for file in self.files]
            for file in files:
                os.pwrite(file.fileno(), NEW, 0)
            flush = threading.Thread(target=flush_quietly, args=(m.path,))
            flush.start()
            testbed.wait_for(lambda: all(crashbed.has_ended(p) for p in servers), "the crash", 60)
            testbed.kill_pid(pid)
            flush.join()
            for file in files:
                try:
                    file.close()
                except OSError:
                    pass
        shutil.rmtree(m.cache)
        self.assertEqual([file.read_bytes() for file in self.files], [NEW, OLD])

    def recover(self, export, *wrap):
        return subprocess.run([*wrap, SLIPWAYD, "recover", export], capture_output=True, text=True,
                              check=False, timeout=60)

    def check_finished(self):
        self.assertEqual([file.read_bytes() for file in self.files], [NEW, NEW])
        self.assertEqual(list((self.export / ".slipway/journal").glob("*/*/commit-*")), [])

    def test_a_session_that_only_reads_finishes_what_its_user_has_committed(self):
        for read, below in (("", ""), ("", "vm"), ("vm", ""), ("vm", "vm/group")):
            with self.subTest(read=read, below=below):
                shutil.rmtree(self.export / "vm", ignore_errors=True)
                (self.dir / "down").unlink(missing_ok=True)
                self.make_files()
                self.crash(below=below)
                m = Mount(f"local:{self.export / read}", self.dir,
                          [f"server_command={SLIPWAYD} session --read-only"], name="reader")
                with m:
                    inside = m.path / self.files[0].parent.relative_to(self.export / read)
                    self.assertEqual([(inside / f.name).read_bytes() for f in self.files],
                                     [NEW, NEW])
                self.check_finished()

    def test_a_session_of_another_directory_leaves_it_alone(self):
        self.make_files()
        (self.export / "other").mkdir()
        self.crash(below="vm")
        with Mount(f"local:{self.export}/other", self.dir,
                   [f"server_command={SLIPWAYD} session --read-only"], name="reader"):
            pass
        self.assertEqual([file.read_bytes() for file in self.files], [NEW, OLD])
        self.assertEqual(self.recover(self.export / "other").returncode, 0)  # the whole export
        self.check_finished()

    def test_recover_finishes_the_commits_of_all_users_as_themselves(self):
        for below in ("", "vm"):
            with self.subTest(below=below):
                shutil.rmtree(self.export / "vm", ignore_errors=True)
                (self.dir / "down").unlink(missing_ok=True)
                self.make_files(owner=NOBODY)
                self.crash(*AS_NOBODY, below=below)
                done = self.recover(self.export)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(f"finished 1 commit of user {NOBODY}", done.stdout)
                self.check_finished()
                journal = self.export / ".slipway/journal"
                for path in journal.rglob("*"):
                    self.assertEqual(path.stat().st_uid, NOBODY, path)
                again = self.recover(self.export)
                self.assertEqual((again.returncode, again.stdout), (0, ""))

    def test_a_user_finishes_his_own_and_only_these(self):
        self.make_files(owner=NOBODY)
        self.crash(*AS_NOBODY)
        other = NOBODY - 1
        wrap = ("setpriv", f"--reuid={other}", f"--regid={other}", "--clear-groups")
        self.assertEqual(self.recover(self.export, *wrap).returncode, 0)
        self.assertEqual([file.read_bytes() for file in self.files], [NEW, OLD])
        self.assertEqual(self.recover(self.export, *AS_NOBODY).returncode, 0)
        self.check_finished()

    def test_a_journal_that_its_user_may_not_apply_is_not_applied_by_root(self):
        self.make_files(owner=NOBODY)
        self.crash(*AS_NOBODY)
        os.chown(self.files[1], 0, 0)
        os.chmod(self.files[1], 0o600)
        done = self.recover(self.export)
        self.assertEqual(done.returncode, 0)
        self.assertIn("refused", done.stderr)  # told, and kept
        self.assertEqual([file.read_bytes() for file in self.files], [NEW, OLD])
        self.assertEqual(len(list((self.export / ".slipway/journal").glob("*/*/refused-*"))), 1)

    def test_what_another_user_has_planted_is_not_looked_at(self):
        self.make_files(owner=NOBODY)
        self.crash(*AS_NOBODY)
        journal = self.export / ".slipway/journal"
        shutil.copytree(journal / str(NOBODY), journal / "0")
        for path in ((journal / "0"), *(journal / "0").rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        shutil.rmtree(journal / str(NOBODY))
        os.symlink("0", journal / str(NOBODY))
        self.assertEqual(self.recover(self.export).returncode, 0)
        self.assertEqual([file.read_bytes() for file in self.files], [NEW, OLD])

    def test_recover_tells_when_something_is_left_and_when_there_is_no_export(self):
        self.assertEqual(self.recover(self.dir / "none").returncode, 1)
        self.make_files()
        self.crash()
        journal = next((self.export / ".slipway/journal").glob("*/*/small-commit")).parent
        testbed.run("mount", "--bind", "-o", "ro", journal, journal)
        try:
            self.assertEqual(self.recover(self.export).returncode, 2)
        finally:
            testbed.run("umount", journal)
        self.assertEqual(self.recover(self.export).returncode, 0)
        self.check_finished()


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
