"""Names, links and attributes on a writable mount, also of files that are open meanwhile; many
processes at once."""

import contextlib
import errno
import os
import pathlib
import random
import shutil
import socket
import stat
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import run, wait_for
from writing import EXCHANGE, NOREPLACE, WritingTest, in_processes, rename2

MB = 1 << 20


class Names(WritingTest):
    def test_rename_over_a_file_keeps_the_old_one_for_who_has_it_open(self):
        for size in (100, 2 * MB):
            with self.subTest(size=size):
                (self.here / "old").write_bytes(b"o" * size)
                (self.here / "new").write_bytes(b"n" * size)
                old, new = self.open("old"), self.open("new")
                os.pwrite(new, b"unsent", 50)
                os.rename(self.here / "new", self.here / "old")
                self.assertEqual(os.pread(old, 10, 0), b"o" * 10)
                self.assertEqual(os.fstat(old).st_nlink, 0)
                os.pwrite(old, b"still", 0)
                self.assertEqual(os.pread(old, 6, 0), b"stillo")
                os.pwrite(new, b"later", 0)
                self.assertEqual((self.here / "old").read_bytes(),
                                 b"later" + b"n" * 45 + b"unsent" + b"n" * (size - 56))
                self.assertEqual(os.stat(self.here / "old").st_ino, os.fstat(new).st_ino)
                self.assertEqual(os.listdir(self.here), ["old"])
                self.assert_same_as_server()

    def test_the_rules_of_rename_are_those_of_a_local_file_system(self):
        h = self.here
        for name in ("empty", "full", "full/sub", "d"):
            os.mkdir(h / name)
        for name in ("f", "g", "full/x"):
            (h / name).write_text(name)
        os.link(h / "g", h / "g2")
        os.rename(h / "d", h / "empty")
        self.assert_errno(errno.ENOTEMPTY, os.rename, h / "empty", h / "full")
        self.assert_errno(errno.EISDIR, os.rename, h / "f", h / "full")
        self.assert_errno(errno.ENOTDIR, os.rename, h / "full", h / "f")
        self.assert_errno(errno.EINVAL, os.rename, h / "full", h / "full/sub/in")
        self.assert_errno(errno.ENOENT, os.rename, h / "none", h / "f")
        self.assert_errno(errno.ENOENT, os.rename, h / "f", h / "none/f")
        os.rename(h / "f", h / "f")
        os.rename(h / "g", h / "g2")  # one file: both names stay
        self.assertEqual(sorted(os.listdir(h)), ["empty", "f", "full", "g", "g2"])
        self.assert_same_as_server()

    def test_noreplace_refuses_and_exchange_swaps_with_open_descriptors_and_unsent_data(self):
        h = self.here
        a, b = self.open("a"), self.open("b")
        os.write(a, b"A" * 100)
        os.write(b, b"B" * 2 * MB)
        self.assert_errno(errno.EEXIST, rename2, h / "a", h / "b", NOREPLACE)
        rename2(h / "a", h / "c", NOREPLACE)
        rename2(h / "c", h / "b", EXCHANGE)
        os.pwrite(a, b"a later", 0)
        os.pwrite(b, b"b later", 0)
        self.assertEqual((h / "b").read_bytes()[:8], b"a laterA")
        self.assertEqual((h / "c").read_bytes()[:8], b"b laterB")
        os.mkdir(h / "d")
        (h / "d/in").write_text("in")
        inside = self.open("d/in", os.O_RDWR)
        rename2(h / "d", h / "b", EXCHANGE)
        os.pwrite(inside, b"IN", 0)
        os.pwrite(a, b"A LATER", 0)
        self.assertEqual((h / "b/in").read_bytes(), b"IN")
        self.assertEqual((h / "d").read_bytes()[:8], b"A LATERA")
        self.assert_errno(errno.ENOENT, rename2, h / "none", h / "b", EXCHANGE)
        self.assert_same_as_server()

    def test_files_below_a_renamed_directory_stay_open_and_their_writes_arrive(self):
        """semantics.md: what is written to them later arrives under the new name."""
        os.makedirs(self.here / "vm/snap/deep")
        written = self.open("vm/snap/deep/disk")
        os.write(written, b"0" * 2 * MB)
        read = self.open("vm/snap/deep/disk", os.O_RDONLY)
        os.pwrite(written, b"unsent", 0)
        os.rename(self.here / "vm", self.here / "vm2")
        os.pwrite(written, b"1 after", 1 * MB)
        os.mkdir(self.here / "other")
        os.rename(self.here / "vm2/snap", self.here / "other/snap")
        os.pwrite(written, b"2 after", 2 * MB)
        self.assertEqual(os.pread(read, 7, MB), b"1 after")
        self.assertEqual((self.here / "other/snap/deep/disk").read_bytes()[-7:], b"2 after")
        self.assertEqual(os.fstat(read).st_ino,
                         os.stat(self.here / "other/snap/deep/disk").st_ino)
        self.assert_errno(errno.ENOENT, os.stat, self.here / "vm")
        self.assert_errno(errno.ENOENT, os.stat, self.here / "vm2/snap")
        self.assert_same_as_server()

    def test_a_file_moves_to_another_directory_with_what_is_unsent(self):
        os.mkdir(self.here / "from")
        os.mkdir(self.here / "to")
        fd = self.open("from/f")
        os.write(fd, b"x" * 5000)
        os.rename(self.here / "from/f", self.here / "to/g")
        os.pwrite(fd, b"y", 5000)
        self.assertEqual(os.listdir(self.here / "from"), [])
        self.assertEqual((self.here / "to/g").read_bytes(), b"x" * 5000 + b"y")
        self.assert_same_as_server()

    def test_the_atomic_update_of_editors_and_vmware_works_a_hundred_times(self):
        """Write a temporary file, chmod it as the old one, rename it over, go on with the
        descriptor of the new one; a reader always finds one whole version."""
        (self.here / "vm.vmx").write_bytes(b"000" * 2000)
        (self.here / "vm.vmx").chmod(0o640)
        stop = threading.Event()
        wrong = []

        def read():
            while not stop.is_set():
                content = (self.here / "vm.vmx").read_bytes()
                if len(content) != 6000 or content != content[:3] * 2000:
                    wrong.append(content[:10])

        reader = threading.Thread(target=read)
        reader.start()
        kept = self.open("vm.vmx", os.O_RDWR)
        for i in range(1, 100):
            fd = self.open("vm.vmx~", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, b"%03d" % i * 2000)
            os.fchmod(fd, 0o640)
            os.fsync(fd)
            os.rename(self.here / "vm.vmx~", self.here / "vm.vmx")
            self.assertEqual(os.pread(kept, 3, 0), b"%03d" % (i - 1))
            self.close(kept)
            kept = fd
        stop.set()
        reader.join()
        self.assertEqual(wrong, [])
        os.pwrite(kept, b"end", 0)
        self.assertEqual((self.here / "vm.vmx").read_bytes()[:6], b"end099")
        self.assertEqual(os.listdir(self.here), ["vm.vmx"])
        self.assert_same_as_server()

    def test_an_unlinked_file_works_until_its_last_close_and_leaves_nothing(self):
        """semantics.md: It has no name meanwhile, no hidden one either; its space on the server is
        free after the last close."""
        for sent in (False, True):
            with self.subTest(sent=sent):
                fd = self.open("f")
                os.write(fd, random.randbytes(32 * MB))
                if sent:
                    self.flush()
                head = os.pread(fd, 1000, 0)
                os.unlink(self.here / "f")
                self.assertEqual(os.listdir(self.here), [])
                self.assertEqual(os.listdir(self.there), [])
                self.assert_errno(errno.ENOENT, os.stat, self.here / "f")
                self.assertEqual(os.fstat(fd).st_nlink, 0)
                self.assertEqual(os.fstat(fd).st_size, 32 * MB)
                self.assertEqual(os.pread(fd, 1000, 0), head)
                os.pwrite(fd, b"written after", 1000)
                os.ftruncate(fd, 33 * MB)
                os.fsync(fd)
                self.flush()
                self.assertEqual(os.pread(fd, 20, 1000)[:13], b"written after")
                self.assertEqual(os.fstat(fd).st_size, 33 * MB)
                again = self.open("f", os.O_RDWR | os.O_CREAT | os.O_EXCL)
                os.write(again, b"another file")
                self.assertEqual(os.pread(fd, 20, 1000)[:13], b"written after")
                self.close(fd)
                self.close(again)
                self.assertEqual((self.here / "f").read_bytes(), b"another file")
                os.unlink(self.here / "f")
        self.flush()
        wait_for(lambda: not self.removed_files_that_are_open(), "the space of the unlinked file")
        self.assertEqual(self.mount.status()["writes"]["conflicts"], [])
        self.assert_same_as_server()

    def removed_files_that_are_open(self):
        """Those of the server's processes: their space is not free."""
        found = []
        for pid in testbed.server_processes(self.mount.status()["pid"]):
            for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    target = os.readlink(fd)
                    if target.startswith(str(self.export)) and target.endswith(" (deleted)"):
                        found.append(target)
        return found

    def test_directories_are_made_and_removed_with_the_exact_errors(self):
        h = self.here
        os.mkdir(h / "d")
        os.mkdir(h / "d/e")
        (h / "f").write_text("f")
        self.assert_errno(errno.EEXIST, os.mkdir, h / "d")
        self.assert_errno(errno.EEXIST, os.mkdir, h / "f")
        self.assert_errno(errno.ENOENT, os.mkdir, h / "none/d")
        self.assert_errno(errno.ENOTDIR, os.mkdir, h / "f/d")
        self.assert_errno(errno.ENOTEMPTY, os.rmdir, h / "d")
        self.assert_errno(errno.ENOTDIR, os.rmdir, h / "f")
        self.assert_errno(errno.ENOENT, os.rmdir, h / "none")
        self.assert_errno(errno.EISDIR, os.unlink, h / "d")
        self.assert_errno(errno.ENOENT, os.unlink, h / "none")
        self.flush()
        self.assertEqual(os.stat(h / "d").st_nlink, os.stat(self.there / "d").st_nlink)
        os.rmdir(h / "d/e")
        os.rmdir(h / "d")
        os.mkdir(h / "d")
        self.assert_same_as_server()

    def test_symbolic_links_inside_the_mount_are_made_and_followed(self):
        os.mkdir(self.here / "d")
        (self.here / "d/f").write_text("target")
        os.symlink("d/f", self.here / "link")
        os.symlink("../d/f", self.here / "d/up")
        os.symlink("nowhere", self.here / "dangling")
        self.assertEqual(os.readlink(self.here / "link"), "d/f")
        self.assertEqual((self.here / "link").read_text(), "target")
        (self.here / "d/up").write_text("through it")
        self.assertEqual((self.here / "d/f").read_text(), "through it")
        (self.here / "dangling").write_text("made through it")
        self.assertEqual((self.here / "nowhere").read_text(), "made through it")
        self.assert_errno(errno.EEXIST, os.symlink, "x", self.here / "link")
        self.assert_same_as_server()

    def test_a_symbolic_link_that_leads_out_of_the_mount_can_be_made_but_not_followed(self):
        """semantics.md: A symbolic link with any target can be made."""
        os.symlink("/etc/passwd", self.here / "out")
        self.assertEqual(os.readlink(self.there / "out"), "/etc/passwd")
        self.assert_errno(errno.EACCES, os.readlink, self.here / "out")
        self.assert_errno(errno.EACCES, open, self.here / "out")
        os.unlink(self.here / "out")

    def test_the_names_of_a_hard_link_are_one_file(self):
        fd = self.open("a")
        os.write(fd, b"x" * 2 * MB)
        os.link(self.here / "a", self.here / "b")
        self.assertEqual(os.fstat(fd).st_nlink, 2)
        self.assertEqual(os.stat(self.here / "b").st_ino, os.fstat(fd).st_ino)
        other = self.open("b", os.O_RDWR)
        os.pwrite(other, b"through b", 0)
        self.assertEqual(os.pread(fd, 9, 0), b"through b")
        self.assertEqual((self.here / "a").read_bytes()[:9], b"through b")
        os.unlink(self.here / "a")
        self.assertEqual(os.fstat(fd).st_nlink, 1)
        os.pwrite(fd, b"by the removed name", 100)
        self.assertEqual((self.here / "b").read_bytes()[100:119], b"by the removed name")
        self.assert_errno(errno.EEXIST, os.link, self.here / "b", self.here / "b")
        self.assert_errno(errno.EPERM, os.link, self.here, self.here / "directory")
        self.assert_same_as_server()

    def test_permission_bits_change_for_open_and_closed_files_and_directories(self):
        """semantics.md: `chmod` sets all twelve bits."""
        fd = self.open("f")
        os.write(fd, b"unsent")
        os.mkdir(self.here / "d")
        for name, mode in (("f", 0o640), ("f", 0o4755), ("d", 0o1777), ("d", 0o2750)):
            os.chmod(self.here / name, mode)
            self.assertEqual(oct(os.stat(self.here / name).st_mode & 0o7777), oct(mode))
            self.assertEqual(oct(os.stat(self.there / name).st_mode & 0o7777), oct(mode))
        os.fchmod(fd, 0o400)
        self.assertEqual(os.fstat(fd).st_mode & 0o7777, 0o400)
        os.write(fd, b" and more")
        self.assertEqual((self.here / "f").read_bytes(), b"unsent and more")
        self.assert_same_as_server()

    def test_the_owner_can_be_set_to_who_it_is_and_to_nobody_else(self):
        """semantics.md: `chown` to the owner and group that are shown succeeds; to others it fails
        with `EPERM`."""
        (self.here / "f").write_text("x")
        os.chown(self.here / "f", os.getuid(), os.getgid())
        os.chown(self.here / "f", -1, -1)
        self.assert_errno(errno.EPERM, os.chown, self.here / "f", os.getuid() + 1, -1)
        self.assert_errno(errno.EPERM, os.chown, self.here / "f", -1, os.getgid() + 1)
        self.assert_same_as_server()

    def test_files_and_directories_can_be_synced(self):
        """semantics.md: `fsync` of a directory returns when both are on the server's disk."""
        fd = self.open("f")
        os.write(fd, b"x")
        os.fsync(fd)
        os.fdatasync(fd)
        os.fsync(self.open("f", os.O_RDONLY))
        directory = self.open(".", os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.fdatasync(directory)
        # What was written before a directory is synced is on the server with its name.
        self.assertEqual((self.there / "f").read_bytes(), b"x")
        os.sync()

    def test_devices_fifos_sockets_and_extended_attributes_are_refused(self):
        """semantics.md, not supported: Devices, fifos and sockets can't be made: `EPERM`. Extended
        attributes and access control lists: `EOPNOTSUPP`."""
        self.assert_errno(errno.EPERM, os.mkfifo, self.here / "fifo")
        self.assert_errno(errno.EPERM, os.mknod, self.here / "dev", 0o600 | stat.S_IFCHR,
                          os.makedev(1, 3))
        with socket.socket(socket.AF_UNIX) as s:
            os.chdir(self.here)
            self.assert_errno(errno.EPERM, s.bind, "socket")
            os.chdir("/")
        (self.here / "f").write_text("x")
        self.assert_errno(errno.ENOTSUP, os.setxattr, self.here / "f", "user.a", b"1")
        self.assert_errno(errno.ENOTSUP, os.getxattr, self.here / "f", "user.a")
        os.mknod(self.here / "regular", 0o640 | stat.S_IFREG)
        self.assert_same_as_server()

    def test_names_may_have_255_bytes_of_anything(self):
        every_byte = bytes(range(1, 47)) + bytes(range(48, 256))
        for name in (b"n" * 255, every_byte, b"a\nb", b" ", b"..."):
            path = os.path.join(os.fsencode(self.here), name)
            with open(path, "wb") as f:
                f.write(name)
            os.rename(path, path[:-1] + b"z")
        long = os.fsencode(self.here) + b"/" + b"n" * 256
        for call in (lambda: os.open(long, os.O_CREAT | os.O_WRONLY), lambda: os.mkdir(long),
                     lambda: os.stat(long), lambda: os.symlink("x", long), lambda: os.unlink(long),
                     lambda: os.rename(os.fsencode(self.here) + b"/..z", long)):
            self.assert_errno(errno.ENAMETOOLONG, call)
        self.assert_same_as_server()

    def test_what_one_process_makes_or_removes_others_see_at_once(self):
        path = self.here / "f"

        def turns(index):
            for i in range(40):
                if i % 2 == index:
                    path.write_text(str(i))
                    os.unlink(self.here / f"turn{i}")
                else:
                    wait_for(lambda: not (self.here / f"turn{i}").exists(), f"turn {i}")
                    assert path.read_text() == str(i), (path.read_text(), i)
                    assert f"turn{i}" not in os.listdir(self.here)

        for i in range(40):
            (self.here / f"turn{i}").touch()
        in_processes(2, turns)
        self.assertEqual(os.listdir(self.here), ["f"])

    def test_eight_processes_make_and_remove_300_files_at_once(self):
        def churn(index):
            own = self.here / f"p{index}"
            own.mkdir()
            for i in range(38):
                (own / f"f{i}").write_bytes(b"%d " % i * (i * 20))
            for i in range(38):
                assert (own / f"f{i}").read_bytes() == b"%d " % i * (i * 20)
                if i % 2:
                    os.unlink(own / f"f{i}")
                elif i % 3:
                    os.rename(own / f"f{i}", self.here / f"from{index}-{i}")
            if index % 2:
                shutil.rmtree(own)

        in_processes(8, churn)
        self.assertEqual(len(list(self.here.glob("from*"))), 8 * 12)
        self.assert_same_as_server()
        shutil.rmtree(self.here / "p0")
        self.assert_same_as_server()

    def make_tree(self, top):
        for i in range(5):
            (top / f"d{i}/e").mkdir(parents=True)
            for j in range(6):
                path = top / f"d{i}/e/f{j}"
                path.write_bytes(random.randbytes(j * 20_000))
                path.chmod(0o600 + j)
                os.utime(path, ns=(i * 1000 + 1, j * 1_000_000_007))
            os.symlink("e/f1", top / f"d{i}/link")
            os.link(top / f"d{i}/e/f2", top / f"d{i}/hard")
        with open(top / "sparse", "wb") as f:
            f.truncate(20 * MB)
            f.seek(10 * MB)
            f.write(b"data")

    def test_cp_tar_rsync_like_tools_and_git_leave_the_same_tree_on_the_server(self):
        source = self.dir / "source"
        source.mkdir()
        self.make_tree(source)
        run("cp", "-a", source, self.here / "cp")
        run("tar", "-C", source, "-cf", self.dir / "tree.tar", ".")
        (self.here / "tar").mkdir()
        run("tar", "-C", self.here / "tar", "-xpf", self.dir / "tree.tar")
        run("mv", self.here / "tar", self.here / "moved")
        shutil.copytree(self.here / "cp", self.here / "again", symlinks=True)
        self.flush()
        for copy in ("cp", "moved", "again"):
            run("diff", "-r", "--no-dereference", source, self.there / copy)
        for path in source.rglob("*"):
            want, got = os.lstat(path), os.lstat(self.there / "cp" / path.relative_to(source))
            self.assertEqual((oct(want.st_mode), want.st_mtime_ns if not path.is_symlink() else 0),
                             (oct(got.st_mode), got.st_mtime_ns if not path.is_symlink() else 0))
        self.assertEqual(os.stat(self.there / "cp/d0/hard").st_nlink, 2)
        self.assert_same_as_server()

    def test_a_program_s_temporary_file_without_a_name_is_refused_as_not_supported(self):
        """semantics.md, not supported: Files without a name (`O_TMPFILE`): `EOPNOTSUPP`."""
        self.assert_errno(errno.EOPNOTSUPP, os.open, self.here, os.O_TMPFILE | os.O_RDWR)


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
