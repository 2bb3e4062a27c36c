"""A writable mount as a whole: exports that are not to be changed, crashes with unsent writes, when
writes are on the server, readers beside writers while checkpoints go out."""

import errno
import mmap
import os
import random
import struct
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import Mount, run, wait_for
from writing import WritingTest

MB = 1 << 20
BLOCK = 4096


class OtherUser(WritingTest):
    """Who may not write gets the error that VMware takes for "read only": EACCES or EROFS."""

    def mount_as_nobody(self):
        command = f"setpriv --reuid=65534 --regid=65534 --clear-groups {testbed.SLIPWAYD} session"
        m = Mount(f"local:{self.export}", self.dir, [f"server_command={command}"], name="other")
        m.cache = self.dir / "cache-other"
        return m

    def changes_of(self, here):
        return (lambda: open(here / "f", "r+"), lambda: open(here / "new", "w"),
                lambda: os.mkdir(here / "x.lck"), lambda: os.unlink(here / "f"),
                lambda: os.rename(here / "f", here / "g"), lambda: os.rmdir(here / "d"),
                lambda: os.symlink("f", here / "s"), lambda: os.truncate(here / "f", 0))

    def test_what_the_server_s_user_may_not_change_answers_eacces_or_erofs(self):
        """EACCES where others may write; EROFS where the server has no place for what it must
        remember of writes: neither `slipwayd init` nor a home directory."""
        os.chmod(self.dir, 0o755)
        for number in (errno.EROFS, errno.EACCES):
            if number == errno.EACCES:
                testbed.slipwayd("init", self.export)
            (self.there / "f").write_text("content")
            (self.there / "d").mkdir(exist_ok=True)
            with self.mount_as_nobody() as m:
                here = m.path / self.there.name
                self.assertEqual((here / "f").read_text(), "content")
                for call in self.changes_of(here):
                    self.assert_errno(number, call)
                    self.assertEqual((here / "f").read_text(), "content")
                if number == errno.EACCES:
                    self.assert_errno(errno.EPERM, os.chmod, here / "f", 0o777)
                    self.assertEqual(m.status()["writes"]["unsent_files"], 0)
            self.assertEqual(sorted(os.listdir(self.there)), ["d", "f"])


class Published(WritingTest):
    def test_a_published_image_answers_erofs_unless_the_mount_may_write_it(self):
        """semantics.md: A published image can't be opened for writing or truncated (`EROFS`),
        unless the mount has `write_published`. Its name can be removed or replaced."""
        image = self.export / "published.img"
        testbed.random_file(image, 4 * MB)
        self.mount.umount()
        testbed.slipwayd("init", self.export)
        testbed.publish(image)
        self.mount.__enter__()
        here = self.mount.path / "published.img"
        for call in (lambda: open(here, "r+"), lambda: open(here, "ab"),
                     lambda: os.truncate(here, 0)):
            self.assert_errno(errno.EROFS, call)
        want = image.read_bytes()
        self.assertEqual(here.read_bytes(), want)
        self.mount.umount()
        self.mount.options.append("write_published")
        self.mount.__enter__()
        with open(here, "r+b", buffering=0) as f:
            f.write(b"changed")
            self.assertEqual(here.read_bytes(), b"changed" + want[7:])
        self.flush()
        self.assertEqual(image.read_bytes(), b"changed" + want[7:])

    def test_a_published_image_can_be_replaced_and_removed(self):
        image = self.export / "golden.img"
        testbed.random_file(image, 2 * MB)
        self.mount.umount()
        testbed.slipwayd("init", self.export)
        testbed.publish(image)
        self.mount.__enter__()
        here = self.mount.path
        (here / "new.img").write_bytes(b"new" * 700_000)
        with open(here / "golden.img", "rb") as old:
            head = old.read(100)
            os.rename(here / "new.img", here / "golden.img")
            self.assertEqual((here / "golden.img").read_bytes(), b"new" * 700_000)
            old.seek(MB)
            self.assertEqual(len(old.read()), MB)
            old.seek(0)
            self.assertEqual(old.read(100), head)
        with open(here / "golden.img", "r+b") as f:
            f.write(b"now it may be written")
        self.flush()
        self.assertEqual(image.read_bytes()[:21], b"now it may be written")
        os.unlink(here / "golden.img")
        self.assertFalse(image.exists())


class Crash(WritingTest):
    def test_after_a_kill_what_was_written_is_there_at_once_and_then_on_the_server(self):
        """semantics.md: A `write` that returned survives a crash of the process that serves the
        mount: the next mount with the same cache shows it at once and sends it."""
        m = self.mount
        old = random.randbytes(3 * MB)
        (self.there / "image").write_bytes(old)
        (self.there / "small").write_bytes(b"small")
        image, small = self.open("image", os.O_RDWR), self.open("small", os.O_RDWR)
        new = self.open("new")
        pid = m.status()["pid"]
        with testbed.stopped_server(m):
            os.pwrite(image, b"synced", MB)
            os.pwrite(image, b"grown", 5 * MB)
            os.ftruncate(small, 2)
            os.write(new, b"n" * 100_000)
            os.fsync(image)
            os.pwrite(small, b"written, not synced", 3)
            self.assertGreater(m.status()["writes"]["unsent_files"], 0)
            testbed.kill_pid(pid)
        for fd in (image, small, new):
            with self.assertRaises(OSError):
                os.fsync(fd)
            self.close(fd)
        self.assertEqual((self.there / "image").read_bytes(), old)
        wait_for(lambda: testbed.is_dead(m.path), "the mount to be dead")
        m.__enter__()
        self.assertGreater(m.status()["writes"]["recovered_bytes"], 100_000)
        want = old[:MB] + b"synced" + old[MB + 6:] + bytes(2 * MB) + b"grown"
        self.assertEqual((self.here / "image").read_bytes(), want)
        self.assertEqual((self.here / "small").read_bytes(), b"sm\0written, not synced")
        self.assertEqual((self.here / "new").read_bytes(), b"n" * 100_000)
        self.assertEqual(os.stat(self.here / "image").st_size, len(want))
        with open(self.here / "image", "r+b", buffering=0) as f:
            f.write(b"and on")
        self.assert_same_as_server()
        self.assertEqual(m.status()["writes"]["conflicts"], [])

    def test_after_a_kill_a_file_is_found_under_the_name_that_it_has_left(self):
        m = self.mount
        fd = self.open("first")
        os.write(fd, b"x" * 5000)
        os.link(self.here / "first", self.here / "second")
        os.unlink(self.here / "first")
        os.pwrite(fd, b"after", 0)
        os.fsync(fd)
        testbed.kill_pid(m.status()["pid"])
        self.close(fd)
        wait_for(lambda: testbed.is_dead(m.path), "the mount to be dead")
        m.__enter__()
        self.assertEqual((self.here / "second").read_bytes(), b"after" + b"x" * 4995)
        self.assert_same_as_server()
        self.assertEqual(os.listdir(self.there), ["second"])
        self.assertEqual(m.status()["writes"]["conflicts"], [])

    def test_an_unmount_leaves_everything_on_the_server(self):
        """semantics.md: `slipway umount` sends everything first."""
        m = self.mount
        (self.here / "f").write_bytes(b"f" * 2 * MB)
        os.utime(self.here / "f", ns=(5, 6))
        (self.here / "g").write_bytes(b"g" * 100)
        m.umount()
        self.assertEqual((self.there / "f").read_bytes(), b"f" * 2 * MB)
        self.assertEqual(os.stat(self.there / "f").st_mtime_ns, 6)
        self.assertEqual((self.there / "g").read_bytes(), b"g" * 100)
        m.__enter__()
        self.assertEqual(m.status()["writes"]["recovered_bytes"], 0)
        self.assert_same_as_server()


class RemoteDurability(WritingTest):
    options = ("durability=remote",)

    def test_with_durability_remote_fsync_and_o_sync_return_when_the_server_has_it(self):
        fd = self.open("f")
        os.write(fd, b"x" * 100_000)
        os.fsync(fd)
        self.assertEqual((self.there / "f").read_bytes(), b"x" * 100_000)
        sync = self.open("f", os.O_WRONLY | os.O_SYNC)
        os.pwrite(sync, b"sync", 5)
        self.assertEqual((self.there / "f").read_bytes()[5:9], b"sync")
        os.unlink(self.here / "f")
        os.pwrite(fd, b"unlinked", 0)
        os.fsync(fd)


class WriteThrough(WritingTest):
    options = ("write=through",)

    def test_with_write_through_a_write_returns_when_the_server_has_it(self):
        fd = self.open("f")
        for i in range(20):
            os.pwrite(fd, b"%03d" % i * 1000, i * 3000)
            self.assertEqual((self.there / "f").read_bytes()[i * 3000:], b"%03d" % i * 1000)
        os.ftruncate(fd, 10)
        self.assertEqual(os.stat(self.there / "f").st_size, 10)
        self.assert_same_as_server()


class Readers(WritingTest):
    """A cache much smaller than the file: what is read comes from the server or from unsent writes,
    and changes its place all the time."""

    options = ("cache_size=1M",)
    BLOCKS = 512
    SECONDS = 4

    def block(self, number, generation):
        return struct.pack("<QQ", number, generation) * (BLOCK // 16)

    def write_blocks(self, own):
        """Counts up blocks whose number has the remainder `own`."""
        generator = random.Random(own)
        fd = os.open(self.here / "f", os.O_RDWR)
        while not self.stop.is_set():
            number = generator.randrange(own, self.BLOCKS, 2)
            self.begun[number] += 1
            os.pwrite(fd, self.block(number, self.begun[number]), number * BLOCK)
            self.done[number] = self.begun[number]
            if generator.random() < 0.01:
                os.fsync(fd)
        os.close(fd)

    def read_blocks(self, direct):
        """What was written before a read began is read; and nothing that was not begun."""
        generator = random.Random(direct)
        buffer = mmap.mmap(-1, BLOCK * 16)
        fd = None
        while not self.stop.is_set():
            if fd is None or generator.random() < 0.02:
                if fd is not None:
                    os.close(fd)
                fd = os.open(self.here / "f", os.O_RDONLY | (os.O_DIRECT if direct else 0))
            count = generator.choice((1, 2, 16))
            first = generator.randrange(self.BLOCKS - count)
            low = self.done[first:first + count]
            got = os.preadv(fd, [memoryview(buffer)[:count * BLOCK]], first * BLOCK)
            high = self.begun[first:first + count]
            self.reads += 1
            if got != count * BLOCK:
                self.wrong.append(f"{got} bytes of {count} blocks at {first}")
                continue
            for i in range(count):
                number, generation = struct.unpack_from("<QQ", buffer, i * BLOCK)
                if number != first + i or not low[i] <= generation <= high[i]:
                    self.wrong.append(f"block {first + i} of generation {low[i]} to {high[i]}: "
                                      f"{number} of {generation}, direct {direct}")
            if generator.random() < 0.05:
                os.lseek(fd, first * BLOCK, generator.choice((os.SEEK_HOLE, os.SEEK_DATA)))
        os.close(fd)

    def guarded(self, body, *arguments):
        def go():
            try:
                body(*arguments)
            except OSError as e:
                self.wrong.append(f"{body.__name__}: {e}")
        return threading.Thread(target=go)

    def flush_all_the_time(self):
        while not self.stop.is_set():
            run(testbed.SLIPWAY, "flush", self.mount.path)

    def change_names(self):
        for i in range(1_000_000):
            if self.stop.wait(0.02):
                return
            (self.here / "other").write_bytes(b"x" * i)
            os.unlink(self.here / "other")

    def test_no_reader_sees_an_older_block_while_checkpoints_go_out(self):
        self.begun, self.done = [0] * self.BLOCKS, [0] * self.BLOCKS
        self.stop, self.wrong, self.reads = threading.Event(), [], 0
        (self.here / "f").write_bytes(b"".join(self.block(i, 0) for i in range(self.BLOCKS)))
        threads = [self.guarded(self.write_blocks, own) for own in range(2)]
        threads += [self.guarded(self.read_blocks, direct) for direct in (0, 1, 0, 1)]
        threads += [self.guarded(self.flush_all_the_time), self.guarded(self.change_names)]
        for thread in threads:
            thread.start()
        time.sleep(self.SECONDS)
        self.stop.set()
        for thread in threads:
            thread.join()
        checkpoints = self.mount.status()["writes"]["checkpoints"]
        print(f"{sum(self.done)} writes, {self.reads} reads, {checkpoints} checkpoints")
        self.assertEqual(self.wrong[:5], [])
        self.assertGreater(checkpoints, 10)
        self.assert_same_as_server()
        self.assertEqual((self.there / "f").read_bytes(),
                         b"".join(self.block(i, self.done[i]) for i in range(self.BLOCKS)))


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
