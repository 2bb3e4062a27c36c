"""A mount of a local export (no SSH): names, content, holes, mmap, errors, remount, crash."""

import contextlib
import errno
import mmap
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import Mount, TempTree, drop_caches, run

UNIT = 16 * 1024


def control_files(mount):
    """What the mount has in the directory that all mounts of a user share."""
    top, found = pathlib.Path("/run/slipway"), []
    for note in top.glob("*.mount"):
        with contextlib.suppress(FileNotFoundError):
            if str(mount.path) in note.read_text():
                found += [file.name for file in top.glob(f"{note.stem}.*")]
    return found


class LocalMount(unittest.TestCase):
    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        self.export = self.dir / "export"
        self.export.mkdir()

    def mount(self, *options, **kwargs):
        mount = Mount(f"local:{self.export}", self.dir,
                      [f"server_command={testbed.SLIPWAYD} session", *options], **kwargs)
        mount.__enter__()
        self.addCleanup(mount.__exit__)
        return mount

    def test_names_attributes_and_content_are_those_of_the_server(self):
        (self.export / "vm/snap").mkdir(parents=True)
        (self.export / "vm/a.vmx").write_text("config")
        testbed.random_file(self.export / "vm/disk", 3 * 1024 * 1024 + 12345)
        os.utime(self.export / "vm/disk", ns=(1, 1234567890123456789))
        os.symlink("vm/disk", self.export / "link")
        os.link(self.export / "vm/a.vmx", self.export / "hard")
        m = self.mount()
        self.assertEqual(sorted(os.listdir(m.path)), ["hard", "link", "vm"])
        self.assertEqual((m.path / "vm/disk").read_bytes(), (self.export / "vm/disk").read_bytes())
        self.assertEqual((m.path / "link").read_bytes(), (self.export / "vm/disk").read_bytes())
        st, there = os.stat(m.path / "vm/disk"), os.stat(self.export / "vm/disk")
        self.assertEqual((st.st_size, st.st_mtime_ns, st.st_mode, st.st_ino, st.st_nlink),
                         (there.st_size, there.st_mtime_ns, there.st_mode, there.st_ino,
                          there.st_nlink))
        self.assertEqual(os.stat(m.path / "hard").st_ino, os.stat(m.path / "vm/a.vmx").st_ino)
        with self.assertRaises(OSError) as e:
            os.stat(m.path / "absent")
        self.assertEqual(e.exception.errno, errno.ENOENT)

    def test_every_write_operation_of_a_read_only_mount_answers_erofs(self):
        (self.export / "f").write_text("x")
        m = self.mount("ro")
        f = m.path / "f"
        for call in (lambda: open(f, "r+"), lambda: open(m.path / "new", "w"),
                     lambda: os.mkdir(m.path / "d"), lambda: os.unlink(f),
                     lambda: os.rename(f, m.path / "g"), lambda: os.link(f, m.path / "h"),
                     lambda: os.symlink("f", m.path / "s"), lambda: os.chmod(f, 0o600),
                     lambda: os.truncate(f, 0), lambda: os.utime(f)):
            with self.assertRaises(OSError) as e:
                call()
            self.assertEqual(e.exception.errno, errno.EROFS)

    def test_holes_are_holes_and_zeros_cost_nothing(self):
        size = 64 * 1024 * 1024
        with open(self.export / "sparse", "wb") as f:
            f.truncate(size)
            f.seek(32 * 1024 * 1024)
            f.write(b"data" * 1024)
        m = self.mount()
        with open(m.path / "sparse", "rb") as f:
            self.assertEqual(os.lseek(f.fileno(), 0, os.SEEK_DATA), 32 * 1024 * 1024)
            hole = os.lseek(f.fileno(), 32 * 1024 * 1024, os.SEEK_HOLE)
            self.assertLessEqual(hole, 32 * 1024 * 1024 + UNIT)
            f.seek(0)
            self.assertEqual(f.read(), (self.export / "sparse").read_bytes())
        status = m.status()
        self.assertLess(status["link"]["bytes_received"], 1024 * 1024)
        self.assertLess(status["cache"]["stored_bytes"], 1024 * 1024)

    def test_direct_and_mapped_reads_see_the_same_bytes(self):
        testbed.random_file(self.export / "disk", 2 * 1024 * 1024 + 100)
        want = (self.export / "disk").read_bytes()
        m = self.mount()
        with open(m.path / "disk", "rb") as f:
            for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
                with mmap.mmap(f.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as view:
                    self.assertEqual(view[:], want)
        fd = os.open(m.path / "disk", os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, 1 << 20)
        got = b""
        while n := os.preadv(fd, [buffer], len(got)):
            got += buffer[:n]
        os.close(fd)
        self.assertEqual(got, want)

    def test_a_remount_reads_from_the_cache(self):
        testbed.random_file(self.export / "disk", 8 * 1024 * 1024)
        os.utime(self.export / "disk", (1000, 1000))
        want = (self.export / "disk").read_bytes()
        m = self.mount()
        self.assertEqual((m.path / "disk").read_bytes(), want)
        m.umount()
        m.__enter__()
        drop_caches()
        self.assertEqual((m.path / "disk").read_bytes(), want)
        self.assertLess(m.status()["link"]["bytes_received"], 300_000)

    def test_a_changed_file_never_mixes_old_and_new(self):
        size = 4 * 1024 * 1024
        (self.export / "disk").write_bytes(b"a" * size)
        os.utime(self.export / "disk", (1000, 1000))
        m = self.mount("attr_timeout=0", "readahead=off")
        old = open(m.path / "disk", "rb", buffering=0)
        self.assertEqual(old.read(UNIT), b"a" * UNIT)
        (self.export / "disk").write_bytes(b"b" * size)
        with self.assertRaises(OSError) as e:
            while chunk := old.read(1 << 20):
                self.assertEqual(set(chunk), {ord("a")})
        self.assertEqual(e.exception.errno, errno.ESTALE)
        self.assertEqual(set((m.path / "disk").read_bytes()), {ord("b")})
        old.close()

    def test_a_killed_client_leaves_a_mount_that_can_be_cleared_and_made_again(self):
        testbed.random_file(self.export / "disk", 8 * 1024 * 1024)
        os.utime(self.export / "disk", (1000, 1000))
        m = self.mount()
        want = (self.export / "disk").read_bytes()
        self.assertEqual((m.path / "disk").read_bytes(), want)
        self.assertGreater(m.status()["cache"]["stored_bytes"], 0)
        testbed.kill_pid(m.status()["pid"])
        testbed.wait_for(lambda: testbed.is_dead(m.path), "the mount to be dead")
        m.umount()
        self.assertFalse(os.path.ismount(m.path))
        m.__enter__()
        self.assertEqual((m.path / "disk").read_bytes(), want)
        self.assertEqual(m.status()["cache"]["corrupt_units"], 0)
        testbed.kill_pid(m.status()["pid"])
        m.__enter__()  # over the dead mount
        self.assertEqual((m.path / "disk").read_bytes(), want)

    def test_a_mount_that_was_killed_is_seen_as_dead_while_its_attributes_are_believed(self):
        (self.export / "f").write_text("x")
        m = self.mount("attr_timeout=600")
        os.stat(m.path)
        pid = m.status()["pid"]
        testbed.kill_pid(pid)
        status = run(testbed.SLIPWAY, "status", m.path, check=False)
        self.assertIn("its process died", status.stderr)
        self.assertIn("was left behind", m.__enter__().result.stderr)
        self.assertEqual((m.path / "f").read_text(), "x")
        testbed.kill_pid(m.status()["pid"])
        mine = control_files(m)
        self.assertTrue(mine)
        m.umount()
        self.assertEqual(control_files(m), [])

    def test_status_and_umount_do_not_wait_for_a_server_that_does_not_answer(self):
        m = self.mount("attr_timeout=0", "io_timeout=60")
        with testbed.stopped_server(m):
            started = time.monotonic()
            self.assertEqual(m.status()["mountpoint"], str(m.path))
            m.umount()
            self.assertLess(time.monotonic() - started, 10)

    def test_mount_takes_the_cache_over_from_a_process_that_is_still_closing_it(self):
        testbed.random_file(self.export / "disk", 8 * 1024 * 1024)
        m = self.mount()
        for _ in range(5):
            self.assertEqual(len((m.path / "disk").read_bytes()), 8 * 1024 * 1024)
            run("umount", m.path)  # does not wait for the process, as slipway umount does
            m.__enter__()

    def test_a_signal_during_the_mount_leaves_nothing_mounted(self):
        (self.dir / "mnt").mkdir()
        for i in range(12):
            mount = subprocess.Popen(
                [testbed.SLIPWAY, "mount", f"local:{self.export}", self.dir / "mnt", "-f", "-o",
                 f"cache={self.dir}/cache,server_command={testbed.SLIPWAYD} session"],
                stderr=subprocess.DEVNULL)
            self.addCleanup(mount.kill)
            time.sleep(0.02 * i)
            mount.send_signal(signal.SIGINT)
            self.assertIn(mount.wait(20), (0, 130, -signal.SIGINT))
            self.assertFalse(os.path.ismount(self.dir / "mnt"))
            self.assertFalse(testbed.is_dead(self.dir / "mnt"))

    def test_a_wrong_command_is_answered_in_one_line(self):
        for arguments, word in (([], "a command is needed"), (["mout"], "mout"),
                                (["mount"], "source"), (["mount", "--foo", "a:/", "b"], "--foo"),
                                (["umount"], "mountpoint")):
            with self.subTest(arguments=arguments):
                result = run(testbed.SLIPWAY, *arguments, check=False)
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stderr, rf"^slipway: .*{word}.*\n$")

    def test_damage_in_the_cache_is_fetched_again_and_counted(self):
        testbed.random_file(self.export / "disk", 8 * 1024 * 1024)
        os.utime(self.export / "disk", (1000, 1000))
        want = (self.export / "disk").read_bytes()
        m = self.mount()
        self.assertEqual((m.path / "disk").read_bytes(), want)
        m.umount()
        data = [p for p in (m.cache / "data").rglob("*.img") if p.stat().st_size > 1 << 20]
        self.assertEqual(len(data), 1)
        with open(data[0], "r+b") as f:
            f.seek(3 * UNIT + 77)
            byte = f.read(1)
            f.seek(3 * UNIT + 77)
            f.write(bytes([byte[0] ^ 1]))
        m.__enter__()
        drop_caches()
        self.assertEqual((m.path / "disk").read_bytes(), want)
        self.assertEqual(m.status()["cache"]["corrupt_units"], 1)

    def test_one_cache_directory_serves_one_process(self):
        self.mount()
        other = self.mount(name="other", check=False)
        self.assertEqual(other.result.returncode, 32)
        self.assertIn("in use by process", other.result.stderr)

    def test_many_readers_get_their_bytes(self):
        testbed.random_file(self.export / "disk", 16 * 1024 * 1024)
        want = (self.export / "disk").read_bytes()
        m = self.mount("cache_size=8M")
        wrong = []

        def read(seed):
            with open(m.path / "disk", "rb", buffering=0) as f:
                for i in range(200):
                    at = (seed * 7919 + i * 104729 * 4096) % (len(want) - 8192)
                    if os.pread(f.fileno(), 5000, at) != want[at:at + 5000]:
                        wrong.append(at)

        threads = [threading.Thread(target=read, args=(i,)) for i in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])
        self.assertLessEqual(m.status()["cache"]["used"], 9 * 1024 * 1024)

    def test_bad_command_lines_get_one_clear_line(self):
        (self.dir / "file").write_text("")
        (self.dir / "full").mkdir()
        (self.dir / "full/x").write_text("")
        source = f"local:{self.export}"
        empty = self.dir / "empty"
        empty.mkdir()
        (self.dir / "link").symlink_to(empty)
        base = f"cache={self.dir}/c,server_command={testbed.SLIPWAYD} session"
        for source_, where, options, code, words in (
                ("nonsense", empty, base, 1, "nonsense"),
                ("root@-oProxyCommand=x:/d", empty, base, 1, "begins with '-'"),
                (source, empty, base + ",cahce_size=1G", 1, "did you mean 'cache_size'"),
                (source, empty, base + ",cache_size=lots", 1, "cache_size=lots"),
                (source, empty, base + ",cache_size=0", 1, "at least 1.0 MiB"),
                (source, empty, base + ",connections=17", 1, "connections=17"),
                (source, empty, base + ",data_address=host", 1, "numeric address"),
                (source, empty, base + ",umask=999", 1, "octal number from 0 to 777"),
                (source, empty, base + ",transport=ssh,connections=2", 1, "contradict"),
                ("host:/d", empty, base + ",Port=99999", 1, "from 1 to 65535"),
                (source, empty, base + ",idmap=none,uid=5", 1, "contradict"),
                (source, self.dir / "absent", base, 32, "does not exist"),
                (source, self.dir / "file", base, 32, "not a directory"),
                (source, self.dir / "full", base, 32, "not empty"),
                (source, empty, base.replace("/c,", "/empty,"), 32, "inside each other"),
                (source, empty, base.replace("/c,", "/link//,"), 32, "inside each other"),
                ("local:/does/not/exist", empty, base, 32, "/does/not/exist"),
                (f"local:{self.dir}/file", empty, base, 32, "not a directory"),
                (source, empty, f"cache={self.dir}/c,server_command=/no/such/slipwayd session", 32,
                 "slipwayd"),
                (source, empty, "cache=/dev/shm/slipway-c", 32, "tmpfs")):
            with self.subTest(options=options, where=where, source=source_):
                result = run(testbed.SLIPWAY, "mount", source_, where, "-o", options, check=False)
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertRegex(result.stderr, words)
                self.assertLessEqual(len(result.stderr.strip().splitlines()), 4)
                self.assertFalse(os.path.ismount(where))
        self.assertFalse(os.path.exists("/dev/shm/slipway-c"))
        self.assertFalse((self.dir / "c").exists())  # no mount worked, so there is nothing to keep

    def test_the_mount_helper_takes_what_mount_passes(self):
        (self.export / "f").write_text("hello")
        helper = self.dir / "mount.slipway"
        helper.symlink_to(testbed.SLIPWAY)
        (self.dir / "mnt").mkdir()
        options = (f"rw,nosuid,nodev,noatime,_netdev,nofail,user,noauto,x-systemd.automount,"
                   f"comment=images,cache={self.dir}/cache,"
                   f"server_command={testbed.SLIPWAYD} session")
        run(helper, f"local:{self.export}", self.dir / "mnt", "-n", "-v", "-o", options)
        try:
            self.assertEqual((self.dir / "mnt/f").read_text(), "hello")
            mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
            entry = [line for line in mounts if str(self.dir / "mnt") in line][0]
            self.assertIn("fuse.slipway", entry)
            self.assertIn("nosuid,nodev", entry)
        finally:
            run("umount", self.dir / "mnt")


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
