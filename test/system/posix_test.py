"""Content of files on a writable mount: every way to write it, seen by every way to read it, and
compared with what the server has after a flush."""

import errno
import fcntl
import mmap
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
import writing
from testbed import run
from writing import (COLLAPSE_RANGE, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, WritingTest, fallocate,
                     in_processes)

MB = 1 << 20
IMAGE = 3 * MB + 123  # larger than what counts as a small file


class Content(WritingTest):
    def test_what_is_written_is_seen_by_every_descriptor_and_process_before_it_is_sent(self):
        """semantics.md: `write` returns when its bytes are in this host's write log, and needs no
        network then; what was written is read back at once through every descriptor, path and
        mapping."""
        for size in (5000, IMAGE):
            with self.subTest(size=size):
                old, new = random.randbytes(size), random.randbytes(3000)
                (self.there / f"f{size}").write_bytes(old)
                first = self.open(f"f{size}", os.O_RDWR)
                second = self.open(f"f{size}", os.O_RDONLY)
                self.assertEqual(os.pread(second, size, 0), old)
                with testbed.stopped_server(self.mount):
                    self.assertEqual(os.pwrite(first, new, 1234), 3000)
                    want = old[:1234] + new + old[4234:]
                    self.assertEqual(os.pread(second, 3000, 1234), new)
                    self.assertEqual(os.pread(first, 3000, 1234), new)
                    self.assertEqual(os.fstat(second).st_size, size)
                with open(self.here / f"f{size}", "rb") as third:
                    self.assertEqual(third.read(), want)
                self.assertEqual(run("md5sum", self.here / f"f{size}").stdout.split()[0],
                                 run("md5sum", input=want.decode("latin1"),
                                     encoding="latin1").stdout.split()[0])
        self.assert_same_as_server()

    def test_any_offset_and_length_can_be_written_and_holes_read_as_zeros(self):
        """semantics.md: What lies between the old end and a write behind it reads as zeros."""
        generator = random.Random(4)
        fd = self.open("f")
        direct = self.open("f", os.O_RDONLY)
        want = bytearray()

        def write(offset, data):
            self.assertEqual(os.pwrite(fd, data, offset), len(data))
            if offset > len(want):
                want.extend(bytes(offset - len(want)))
            want[offset:offset + len(data)] = data

        for round_ in range(4):
            for _ in range(60):
                at = generator.randrange(2 * MB + round_ * MB)
                write(at, generator.randbytes(generator.choice((1, 7, 511, 4096, 4097, 70_001))))
                at = generator.randrange(len(want))
                self.assertEqual(os.pread(direct, 50_000, at), want[at:at + 50_000])
            self.assertEqual((self.here / "f").read_bytes(), want)
            self.flush()
            self.assertEqual((self.there / "f").read_bytes(), want)
        self.assert_same_as_server()

    def test_a_large_file_is_written_and_read_back_in_one_call_each(self):
        data = random.randbytes(16 * MB)
        with open(self.here / "f", "wb", buffering=0) as f:
            self.assertEqual(f.write(data), len(data))
        self.assertEqual((self.here / "f").read_bytes(), data)
        self.assert_same_as_server()

    def test_vectors_zero_lengths_and_sendfile_write_what_they_are_given(self):
        fd = self.open("f")
        self.assertEqual(os.writev(fd, [b"one", b"", b"two" * 5000]), 15003)
        self.assertEqual(os.pwritev(fd, [b"x" * 3, b"y"], 20_000), 4)
        self.assertEqual(os.write(fd, b""), 0)
        self.assertEqual(os.pwrite(fd, b"", 10 * MB), 0)
        self.assertEqual(os.fstat(fd).st_size, 20_004)
        to = self.open("to")
        self.assertEqual(os.sendfile(to, fd, 0, 20_004), 20_004)
        self.assertEqual((self.here / "to").read_bytes(), (self.here / "f").read_bytes())
        self.assert_same_as_server()

    def test_o_append_of_two_descriptors_and_two_processes_loses_no_line(self):
        """semantics.md: `O_APPEND` writes of all descriptors and processes of this mount follow
        each other; none is lost."""
        a, b = (self.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(2))
        for i in range(20):
            os.write(a, b"a%03d\n" % i)
            os.write(b, b"b%03d\n" % i)

        def append(index):
            with open(self.here / "log", "ab", buffering=0) as f:
                for i in range(100):
                    f.write(b"%d%03d\n" % (index, i))

        in_processes(2, append)
        os.lseek(a, 0, os.SEEK_SET)
        os.write(a, b"last\n")
        lines = (self.here / "log").read_bytes().splitlines()
        self.assertEqual(lines[:40], [w % i for i in range(20) for w in (b"a%03d", b"b%03d")])
        self.assertEqual(sorted(lines[40:-1]),
                         sorted(b"%d%03d" % (p, i) for p in range(2) for i in range(100)))
        self.assertEqual(lines[-1], b"last")
        self.assert_same_as_server()

    def test_o_excl_has_one_winner_among_processes(self):
        def create(index):
            won = 0
            for i in range(10):
                try:
                    os.close(os.open(self.here / f"f{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    won += 1
                except FileExistsError:
                    pass
            return won

        self.assertEqual(sum(in_processes(8, create)), 10)
        self.assert_same_as_server()

    def test_modes_of_new_files_and_directories_follow_the_umask(self):
        """semantics.md: New files and directories have the mode that they were made with, less the
        umask; who made a file may write through that descriptor whatever the mode says."""
        for umask, mode in ((0o022, 0o666), (0o027, 0o777), (0, 0o604), (0o077, 0o640)):
            os.umask(umask)
            fd = self.open(f"f{mode:o}", os.O_CREAT | os.O_WRONLY, mode)
            os.mkdir(self.here / f"d{mode:o}", mode)
            os.umask(0o022)
            self.flush()
            for st in (os.fstat(fd), os.stat(self.there / f"f{mode:o}"),
                       os.stat(self.there / f"d{mode:o}"), os.stat(self.here / f"d{mode:o}")):
                self.assertEqual(oct(st.st_mode & 0o7777), oct(mode & ~umask))
        fd = self.open("none", os.O_CREAT | os.O_RDWR, 0)
        os.write(fd, b"the descriptor that made it may write")
        self.assert_same_as_server()

    def test_o_trunc_cuts_what_was_there_sent_or_not(self):
        for sent in (False, True):
            (self.here / "f").write_bytes(b"long" * 300_000)
            old = self.open("f", os.O_RDONLY)
            if sent:
                self.flush()
            fd = self.open("f", os.O_WRONLY | os.O_TRUNC)
            self.assertEqual(os.fstat(old).st_size, 0)
            self.assertEqual(os.pread(old, 10, 0), b"")
            os.pwrite(fd, b"end", 100_000)
            self.assertEqual((self.here / "f").read_bytes(), bytes(100_000) + b"end")
            self.assert_same_as_server()

    def test_what_was_cut_off_never_shows_again(self):
        """semantics.md: whatever the file grows to later, and in whatever order that is sent. Each
        step is sent or not, in all ways."""
        for sent in range(16):
            with self.subTest(sent=f"{sent:04b}"):
                fd = self.open(f"f{sent}")
                view = self.open(f"f{sent}", os.O_RDONLY)

                def step(number):
                    if sent & (1 << number):
                        self.flush()
                    os.pread(view, 100_000, 0)  # the kernel's pages hold what is there now

                os.write(fd, b"stale" * 20_000)
                step(0)
                os.ftruncate(fd, 5_001)
                step(1)
                os.ftruncate(fd, 60_000)
                step(2)
                os.pwrite(fd, b"new", 90_000)
                step(3)
                want = (b"stale" * 20_000)[:5_001] + bytes(84_999) + b"new"
                self.assertEqual(os.pread(view, 100_000, 0), want)
                os.ftruncate(fd, 0)
                os.ftruncate(fd, 7)
                self.assertEqual(os.pread(view, 100, 0), bytes(7))
                os.close(view)
                self.opened.discard(view)
        self.assert_same_as_server()

    def test_truncate_by_path_cuts_open_and_closed_files(self):
        (self.here / "closed").write_bytes(b"c" * IMAGE)
        fd = self.open("open")
        os.write(fd, b"o" * IMAGE)
        for name in ("closed", "open"):
            os.truncate(self.here / name, 10_001)
            self.assertEqual(os.stat(self.here / name).st_size, 10_001)
            os.truncate(self.here / name, 2 * MB)
        self.assertEqual(os.fstat(fd).st_size, 2 * MB)
        self.assertEqual(os.pread(fd, 3, 10_000), b"o\0\0")
        self.assert_same_as_server()
        self.assert_errno(errno.EISDIR, os.truncate, self.here, 0)
        self.assert_errno(errno.ENOENT, os.truncate, self.here / "none", 0)
        self.assert_errno(errno.EINVAL, os.ftruncate, self.open("open", os.O_RDONLY), 0)

    def test_every_fallocate_mode_does_what_it_does_on_a_local_file_system(self):
        calls = [(0, 100, 50_000), (KEEP_SIZE, 0, 300_000), (PUNCH_HOLE | KEEP_SIZE, 5_000, 20_001),
                 (ZERO_RANGE, 40_000, 100_000), (ZERO_RANGE | KEEP_SIZE, 130_001, 500_000),
                 (PUNCH_HOLE | KEEP_SIZE, 100_000, 1_000_000), (0, 2_000_000, 1)]
        for sent in (False, True):
            with tempfile.TemporaryFile(dir=self.dir) as local:
                fd = self.open(f"f{sent}")
                content = random.randbytes(120_000)
                for target in (local.fileno(), fd):
                    os.pwrite(target, content, 0)
                for call in calls:
                    if sent:
                        self.flush()
                    for target in (local.fileno(), fd):
                        fallocate(target, *call)
                    with self.subTest(sent=sent, call=call):
                        self.assertEqual(os.fstat(fd).st_size, os.fstat(local.fileno()).st_size)
                        self.assertEqual(os.pread(fd, 3 * MB, 0),
                                         os.pread(local.fileno(), 3 * MB, 0))
        self.assert_same_as_server()

    def test_fallocate_modes_that_nobody_promised_are_refused(self):
        """semantics.md: Every other mode fails with `EOPNOTSUPP`, and so does a hole without
        `FALLOC_FL_KEEP_SIZE`."""
        fd = self.open("f")
        os.write(fd, bytes(100_000))
        self.assert_errno(errno.EOPNOTSUPP, fallocate, fd, COLLAPSE_RANGE, 0, 4096)
        self.assert_errno(errno.EOPNOTSUPP, fallocate, fd, PUNCH_HOLE, 0, 4096)
        self.assert_errno(errno.EINVAL, fallocate, fd, 0, 0, 0)
        self.assert_errno(errno.EBADF, fallocate, self.open("f", os.O_RDONLY), 0, 0, 10)
        self.assertEqual(os.fstat(fd).st_size, 100_000)

    def test_holes_and_preallocated_space_cost_the_server_what_they_cost_locally(self):
        fd = self.open("sparse")
        os.ftruncate(fd, 1 << 40)
        os.pwrite(fd, b"x", 1 << 39)
        os.posix_fallocate(self.open("allocated"), 0, 20 * MB)
        os.write(self.open("full"), b"f" * 8 * MB)
        full = self.open("full")
        self.flush()
        fallocate(full, PUNCH_HOLE | KEEP_SIZE, MB, 6 * MB)
        before = self.mount.status()["link"]["bytes_sent"]
        self.flush()
        self.assertLess(self.mount.status()["link"]["bytes_sent"] - before, 100_000)
        self.assertLess(os.stat(self.there / "sparse").st_blocks * 512, 100_000)
        self.assertGreaterEqual(os.stat(self.there / "allocated").st_blocks * 512, 20 * MB)
        self.assertLess(os.stat(self.there / "full").st_blocks * 512, 3 * MB)
        self.assertEqual(os.stat(self.there / "sparse").st_size, 1 << 40)

    def segments(self, fd):
        """[begin, end) of everything that SEEK_DATA calls data."""
        found, at = [], 0
        while True:
            try:
                begin = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as e:
                self.assertEqual(e.errno, errno.ENXIO)
                return found
            at = os.lseek(fd, begin, os.SEEK_HOLE)
            self.assertGreater(at, begin)
            found.append((begin, at))

    def test_seek_data_and_hole_know_what_is_unsent_and_what_is_sent(self):
        """semantics.md: `SEEK_HOLE` and `SEEK_DATA` know unsent writes, too."""
        fd = self.open("f")
        os.ftruncate(fd, 16 * MB)
        os.pwrite(fd, b"d" * 100_000, 4 * MB)
        os.pwrite(fd, b"e" * 100_000, 12 * MB)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 12 * MB, 50_000)
        for when in ("unsent", "sent", "unsent again"):
            with self.subTest(when=when):
                found = self.segments(fd)
                covered = sum(end - begin for begin, end in found)
                self.assertTrue(any(b <= 4 * MB and 4 * MB + 100_000 <= e for b, e in found), found)
                self.assertTrue(any(b <= 12 * MB + 50_000 and 12 * MB + 100_000 <= e
                                    for b, e in found), found)
                self.assertLess(covered, 300_000)
                self.assertEqual(os.lseek(fd, 0, os.SEEK_HOLE), 0)
                self.assertEqual(os.lseek(fd, 15 * MB, os.SEEK_HOLE), 15 * MB)
                self.assert_errno(errno.ENXIO, os.lseek, fd, 16 * MB, os.SEEK_HOLE)
            if when == "unsent":
                self.flush()
            else:
                os.pwrite(fd, b"again", 4 * MB)
        copy = self.here / "copy"
        run("cp", "--sparse=auto", self.here / "f", copy)
        self.assertEqual(copy.read_bytes(), (self.here / "f").read_bytes())
        self.assert_same_as_server()

    def test_archivers_that_look_for_holes_find_the_data_of_a_file_that_is_unsent(self):
        """semantics.md: A file with unsent data shows blocks for it, so that archivers that look
        at blocks do not take it for a hole."""
        data = random.randbytes(2 * MB)
        (self.here / "f").write_bytes(data)
        (self.here / "small").write_bytes(data[:700])
        run("tar", "-C", self.here, "-S", "-cf", self.dir / "a.tar", "f", "small")
        run("tar", "-C", self.dir, "-xf", self.dir / "a.tar")
        self.assertEqual((self.dir / "f").read_bytes(), data)
        self.assertEqual((self.dir / "small").read_bytes(), data[:700])
        run("cp", "--sparse=always", self.here / "f", self.dir / "c")
        self.assertEqual((self.dir / "c").read_bytes(), data)

    def test_shared_mappings_reads_and_the_server_agree(self):
        for size in (20_000, IMAGE):
            with self.subTest(size=size):
                name = f"f{size}"
                (self.there / name).write_bytes(bytes(size))
                fd = self.open(name, os.O_RDWR)
                reader = self.open(name, os.O_RDONLY)
                want = bytearray(size)
                with mmap.mmap(fd, size) as view, mmap.mmap(reader, size,
                                                            prot=mmap.PROT_READ) as other:
                    for at in (0, 4095, 10_000, size - 5):
                        view[at:at + 5] = want[at:at + 5] = b"hello"
                        self.assertEqual(os.pread(reader, 5, at), b"hello")
                        self.assertEqual(other[at:at + 5], b"hello")
                    view.flush()  # msync
                    self.flush()
                    self.assertEqual((self.there / name).read_bytes(), want)
                    os.pwrite(fd, b"write", 8_000)
                    want[8_000:8_005] = b"write"
                    self.assertEqual(other[8_000:8_005], b"write")
                    view[12_000:12_005] = want[12_000:12_005] = b"again"
                # munmap and close, without msync
                self.close(fd)
                self.assertEqual((self.here / name).read_bytes(), want)
                self.flush()
                self.assertEqual((self.there / name).read_bytes(), want)

    def test_a_mapping_that_outlives_its_descriptors_still_writes(self):
        (self.there / "f").write_bytes(bytes(IMAGE))
        fd = self.open("f", os.O_RDWR)
        view = mmap.mmap(fd, IMAGE)
        self.close(fd)
        view[2 * MB:2 * MB + 5] = b"later"
        view.close()
        testbed.wait_for(lambda: (self.here / "f").read_bytes()[2 * MB:2 * MB + 5] == b"later",
                         "the mapped write")
        self.flush()
        self.assertEqual((self.there / "f").read_bytes()[2 * MB:2 * MB + 5], b"later")

    def test_direct_and_buffered_writes_are_one(self):
        buffer = mmap.mmap(-1, MB)
        content = random.randbytes(MB)
        buffer[:] = content
        direct = self.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        buffered = self.open("f", os.O_RDWR)
        for at in (0, 4096, 3 * MB, 1_000_000 // 512 * 512):
            self.assertEqual(os.pwritev(direct, [buffer], at), MB)
            self.assertEqual(os.pread(buffered, MB, at), content)
            os.pwrite(buffered, b"buffered", at + 5_000)
            self.assertEqual(os.preadv(direct, [buffer], at), MB)
            self.assertEqual(buffer[5_000:5_008], b"buffered")
            buffer[:] = content
        self.assert_same_as_server()

    def test_synchronous_descriptors_write_what_plain_ones_do(self):
        for flag in (os.O_SYNC, os.O_DSYNC, os.O_SYNC | os.O_DIRECT):
            fd = self.open(f"f{flag}", os.O_RDWR | os.O_CREAT | flag)
            buffer = mmap.mmap(-1, 8192)
            buffer[:] = bytes(range(256)) * 32
            self.assertEqual(os.pwritev(fd, [buffer], 4096), 8192)
        self.assert_same_as_server()

    def test_copy_file_range_copies_within_a_file_and_between_files(self):
        data = random.randbytes(IMAGE)
        a, b = self.open("a"), self.open("b")
        os.write(a, data)
        done = 0
        while done < IMAGE:
            done += os.copy_file_range(a, b, IMAGE - done, done, done)
        self.assertEqual((self.here / "b").read_bytes(), data)
        self.assertEqual(os.copy_file_range(a, a, 5_000, 100, MB), 5_000)
        self.assertEqual(os.pread(a, 5_000, MB), data[100:5_100])
        self.assertEqual(os.copy_file_range(a, b, 10, IMAGE), 0)
        # What was copied is below what is written next, also when that is the first write.
        data = (self.here / "a").read_bytes()
        for size in (3_000, 3 * MB):
            self.assertEqual(os.copy_file_range(a, c := self.open(f"copy-{size}"), size, 0, 0), size)
            os.pwrite(c, b"next", 7)
            want = data[:7] + b"next" + data[11:size]
            self.assertEqual(os.pread(c, size + 1, 0), want)
            os.ftruncate(c, size - 5)
            self.assertEqual((self.here / f"copy-{size}").read_bytes(), want[:-5])
        run("cp", "--reflink=auto", self.here / "a", self.here / "c")
        self.assert_same_as_server()

    def test_a_file_that_was_written_can_be_executed(self):
        program = self.here / "busybox"
        program.write_bytes(pathlib.Path("/bin/busybox").read_bytes())
        program.chmod(0o755)
        self.assertEqual(run(program, "echo", "runs").stdout, "runs\n")
        running = subprocess.Popen([program, "sleep", "30"])
        try:
            self.assert_errno(errno.ETXTBSY, os.open, program, os.O_WRONLY)
        finally:
            testbed.stop(running)
        self.assert_same_as_server()

    def test_sizes_beyond_the_largest_file_are_refused_with_efbig(self):
        """semantics.md: Offsets behind 2^62 fail with `EFBIG`."""
        fd = self.open("f")
        os.write(fd, b"x")
        self.assertEqual(os.lseek(fd, 1 << 62, os.SEEK_SET), 1 << 62)
        self.assert_errno(errno.EFBIG, os.pwrite, fd, b"x", 1 << 62)
        self.assert_errno(errno.EFBIG, os.ftruncate, fd, (1 << 62) + 1)
        self.assert_errno(errno.EFBIG, fallocate, fd, 0, 1 << 62, 10)
        self.assertEqual(os.fstat(fd).st_size, 1)
        self.assert_same_as_server()

    def test_the_limit_of_a_process_for_file_sizes_holds(self):
        def write_beyond(_):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            fd = os.open(self.here / "f", os.O_WRONLY | os.O_CREAT)
            self.assertEqual(os.write(fd, bytes(20_000)), 10_000)
            self.assert_errno(errno.EFBIG, os.write, fd, b"x")

        in_processes(1, write_beyond)
        self.assert_same_as_server()

    def test_modification_times_move_with_writes_only_and_stay_over_sending(self):
        """semantics.md: A `write` or truncation sets the modification time to this host's clock.
        It does not change again when it is sent."""
        fd = self.open("f")
        os.write(fd, b"x" * 5_000)
        first = os.fstat(fd).st_mtime_ns
        self.assertLess(abs(first - time.time_ns()), 5_000_000_000)
        os.pread(fd, 10, 0)
        self.flush()
        os.close(self.open_again("f"))
        self.assertEqual(os.fstat(fd).st_mtime_ns, first)
        self.assertEqual(os.stat(self.there / "f").st_mtime_ns, first)
        time.sleep(0.01)
        os.pwrite(fd, b"y", 3)
        self.assertGreater(os.fstat(fd).st_mtime_ns, first)
        self.assert_same_as_server()

    def open_again(self, name):
        return os.open(self.here / name, os.O_RDWR)

    def test_times_that_were_set_are_exact_to_the_nanosecond(self):
        """semantics.md: here and on the server, also when writes before them are unsent."""
        fd = self.open("f")
        os.write(fd, b"unsent")
        for ns in ((1, 2), (1_234_567_890_123_456_789, 999_999_999), (-5_000_000_001, -1)):
            for target in (self.here / "f", fd):
                os.utime(target, ns=ns)
                st = os.stat(self.here / "f")
                self.assertEqual((st.st_atime_ns, st.st_mtime_ns), ns)
        self.flush()
        st = os.stat(self.there / "f")
        self.assertEqual((st.st_atime_ns, st.st_mtime_ns), ns)
        os.pwrite(fd, b"later", 0)
        self.assertLess(abs(os.fstat(fd).st_mtime_ns - time.time_ns()), 5_000_000_000)
        os.utime(self.here, ns=(77, 88))
        self.assertEqual(os.stat(self.there).st_mtime_ns, 88)
        self.assert_same_as_server()

    def test_locks_exclude_other_processes_until_they_are_given_up(self):
        """semantics.md: `flock`, POSIX and OFD locks work between the processes of this host."""
        (self.here / "f").write_bytes(b"x" * 300)
        flags = os.O_RDWR
        whole = writing.lock_record

        def try_lock(kind):
            def attempt(_):
                fd = os.open(self.here / "f", flags)
                try:
                    if kind == "flock":
                        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    else:
                        command = fcntl.F_SETLK if kind == "posix" else fcntl.F_OFD_SETLK
                        fcntl.fcntl(fd, command, whole(fcntl.F_WRLCK, 100, 1))
                except OSError as e:
                    self.assertIn(e.errno, (errno.EAGAIN, errno.EACCES))
                    return 1
                return 0
            return in_processes(1, attempt)[0]

        for kind in ("flock", "posix", "ofd"):
            with self.subTest(kind=kind):
                fd = os.open(self.here / "f", flags)
                if kind == "flock":
                    fcntl.flock(fd, fcntl.LOCK_EX)
                else:
                    command = fcntl.F_SETLK if kind == "posix" else fcntl.F_OFD_SETLK
                    fcntl.fcntl(fd, command, whole(fcntl.F_WRLCK, 0, 200))
                self.assertEqual(try_lock(kind), 1)
                if kind == "ofd":
                    self.assertEqual(try_lock("posix"), 1)
                os.close(fd)
                self.assertEqual(try_lock(kind), 0)

    def test_statfs_gives_sane_numbers(self):
        here, there = os.statvfs(self.here), os.statvfs(self.there)
        self.assertEqual(here.f_bsize, here.f_frsize)
        self.assertGreater(here.f_bavail, 0)
        self.assertEqual(here.f_blocks * here.f_frsize // MB, there.f_blocks * there.f_frsize // MB)
        self.assertLess(abs(here.f_bavail * here.f_frsize - there.f_bavail * there.f_frsize),
                        1024 * MB)
        self.assertGreaterEqual(here.f_namemax, 255)


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
