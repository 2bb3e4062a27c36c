"""Published images: what publish says of them, what a mount then no longer asks for, and what
happens when the file, the manifest or the frames are no longer what was published."""

import errno
import json
import os
import pathlib
import random
import shutil
import statistics
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import UNIT, Link, Mount, Sshd, TempTree, manifest, run, wait_for

NOBODY = 65534
SMALL = 160  # units of an image about which a client asks: those of 1 MiB and less come whole
VMX = """.encoding = "UTF-8"
scsi0:0.fileName = "disk.raw"
checkpoint.vmState = "machine.vmss"
memory.file = "machine.vmem"
"""


def flip(path, *places):
    """Damages a file at parts of its length; 1.0 is its last byte."""
    with open(path, "r+b") as f:
        size = os.fstat(f.fileno()).st_size
        for place in places:
            at = min(int(place * size), size - 1)
            byte = os.pread(f.fileno(), 1, at)
            os.pwrite(f.fileno(), bytes([byte[0] ^ 1]), at)


def walk(path):
    """The data extents of a file as SEEK_DATA and SEEK_HOLE tell them."""
    found = []
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        at = 0
        while at < size:
            try:
                begin = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                break
            at = os.lseek(f.fileno(), begin, os.SEEK_HOLE)
            found.append([begin, at])
    return found


def within(seconds, work):
    """Does the work in a thread: whether it ended in time."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


class Published(unittest.TestCase):
    """One export for all tests, published once, because a manifest is believed only when the file
    has been left alone for 2 s. A test that changes files changes those of its own directory."""

    IMAGES = {}

    @classmethod
    def prepare(cls):
        """Changes files before they are published."""

    @classmethod
    def setUpClass(cls):
        tree = TempTree()
        cls.tree = tree.__enter__()
        cls.addClassCleanup(tree.__exit__)
        cls.export = cls.tree / "export"
        cls.export.mkdir()
        testbed.slipwayd("init", cls.export)
        cls.state = cls.export / ".slipway"
        cls.content = {}
        for seed, (name, units) in enumerate(cls.IMAGES.items()):
            (cls.export / name).parent.mkdir(exist_ok=True)
            cls.content[name] = testbed.patterned_image(cls.export / name, units, seed)
        cls.prepare()
        cls.said = testbed.publish(cls.export)

    def setUp(self):
        self.dir = self.tree / self.id().rpartition(".")[2]
        self.dir.mkdir()

    def mounted(self, *options, source=None):
        """For `with`."""
        return Mount(source or f"local:{self.export}", self.dir,
                     [f"server_command={testbed.SLIPWAYD} session", *options])

    def mount(self, *options):
        """Until the end of the test."""
        mount = self.mounted("profile=off", *options)
        mount.__enter__()
        self.addCleanup(mount.__exit__)
        return mount

    def with_empty_cache(self, mount):
        shutil.rmtree(self.dir / "cache", ignore_errors=True)
        return mount

    def check_read(self, mount, name):
        self.assertTrue((mount.path / name).read_bytes() == self.content[name], name)

    def manifest_file(self, name):
        found = [p for p in (self.state / "manifests").iterdir()
                 if p.name.endswith(f"-{os.stat(self.export / name).st_ino}")]
        self.assertEqual(len(found), 1)
        return found[0]


class Manifests(Published):
    IMAGES = {"vm/machine.vmem": 768, "vm/disk.raw": 768, "changed/content.raw": SMALL,
              "changed/truncated.raw": SMALL, "changed/replaced.raw": SMALL,
              "held/moved.raw": SMALL, "held/restored.raw": 768, "damaged/frames.vmem": SMALL,
              "damaged/leaves.raw": SMALL, "damaged/head.raw": SMALL, "damaged/short.raw": SMALL,
              "planted/foreign.raw": SMALL, "planted/writable.raw": SMALL,
              "planted/link.raw": SMALL, "planted/theirs.raw": SMALL, "pin/disk.raw": SMALL,
              "forget/a.raw": SMALL, "forget/b.raw": SMALL, "forget/c.raw": SMALL}

    @classmethod
    def prepare(cls):
        os.chown(cls.export / "planted/theirs.raw", NOBODY, NOBODY)
        (cls.export / "vm/machine.vmx").write_text(VMX)
        # cp looks for holes only in a file that seems to have some; the memory's zeros are written.
        run("fallocate", "--dig-holes", cls.export / "vm/disk.raw")

    def test_publish_knows_what_the_files_of_a_machine_are(self):
        for name, what in (("machine.vmem", ("memory", "bulk")), ("disk.raw", ("disk", "demand")),
                           ("machine.vmx", ("config", "whole"))):
            with self.subTest(name):
                facts = manifest(self.export / "vm" / name)
                self.assertEqual((facts["class"], facts["plan"]), what)
                self.assertEqual(facts["state"], "valid")
                self.assertEqual(facts["root"], self.said[f"vm/{name}"]["root"])
                self.assertEqual(facts["size"], os.stat(self.export / "vm" / name).st_size)
                testbed.slipwayd("manifest", "check", self.export / "vm" / name)
                root = self.state / "roots" / facts["root"]
                self.assertTrue(os.path.samefile(root, self.export / "vm" / name))
        content = self.content["vm/machine.vmem"]
        nonzero = sum(end - begin for begin, end in testbed.data_extents(content))
        facts = manifest(self.export / "vm/machine.vmem")
        self.assertEqual(facts["zero_bytes"], len(content) - nonzero)
        self.assertGreater(facts["frame_bytes"], 0)

    def test_publishing_one_file_of_a_set_publishes_the_others_and_never_twice(self):
        (self.export / "set").mkdir()
        for name in "disk.raw", "machine.vmx":
            shutil.copy(self.export / "vm" / name, self.export / "set" / name)
        said = testbed.publish(self.export / "set/machine.vmx")
        self.assertEqual({name: line["event"] for name, line in said.items()},
                         {"set/machine.vmx": "published", "set/disk.raw": "published"})
        self.assertEqual(said["set/disk.raw"]["root"], self.said["vm/disk.raw"]["root"])
        said = testbed.slipwayd("publish", "--json", self.export / "set").stdout.splitlines()
        self.assertEqual([json.loads(line)["skipped"] for line in said
                          if '"summary"' in line], [2])

    def test_reads_are_those_of_the_files_and_no_zeros_are_asked_for(self):
        m = self.mount()
        came, received = 0, 0
        for name in "vm/machine.vmem", "vm/disk.raw":
            with self.subTest(name):
                self.check_read(m, name)
                needed = sum(e - b for b, e in testbed.data_extents(self.content[name]))
                reads = m.status()["reads"]
                now = reads["demand_bytes"] + reads["prefetch_bytes"] - reads["duplicate_bytes"]
                self.assertEqual(now - came, needed)
                came, received = now, m.status()["link"]["bytes_received"] - received
                if name == "vm/machine.vmem":
                    # Three of five units that are not zero are random and have no frame.
                    frames = self.said[name]["frame_bytes"]
                    self.assertLess(received, needed * 3 // 5 + frames + 250_000)
                self.assertLess(received, needed + 250_000)
        self.assertEqual(m.status()["prefetch"]["manifests"], 2)
        self.assertEqual(m.status()["cache"]["stored_bytes"], came)

    def test_holes_are_told_as_published_and_nothing_is_fetched_for_them(self):
        m = self.mount("bulk=no")
        name = "vm/disk.raw"
        extents = testbed.data_extents(self.content[name])
        self.assertEqual(walk(m.path / name), extents)
        self.assertEqual(walk(m.path / "vm/machine.vmem"),
                         testbed.data_extents(self.content["vm/machine.vmem"]))
        reads = m.status()["reads"]
        self.assertEqual(reads["demand_bytes"] + reads["prefetch_bytes"], 0)
        if shutil.which("qemu-img"):
            told = json.loads(run("qemu-img", "map", "-f", "raw", "--output=json",
                                  m.path / name).stdout)
            told = [[e["start"], e["start"] + e["length"]] for e in told if e["data"]]
            self.assertEqual(told[:-1], extents[:-1])  # qemu rounds the end up to a sector
        run("cp", "--sparse=auto", m.path / name, self.dir / "copy")
        self.assertTrue((self.dir / "copy").read_bytes() == self.content[name])
        needed = sum(end - begin for begin, end in extents)
        self.assertLess(os.stat(self.dir / "copy").st_blocks * 512, needed + (1 << 20))
        reads = m.status()["reads"]
        self.assertLessEqual(reads["demand_bytes"] + reads["prefetch_bytes"],
                             needed + reads["duplicate_bytes"])

    def test_opening_a_memory_image_brings_all_of_it(self):
        m = self.mount()
        name = "vm/machine.vmem"
        needed = sum(e - b for b, e in testbed.data_extents(self.content[name]))
        with open(m.path / name, "rb", buffering=0) as f:
            wait_for(lambda: m.status()["cache"]["stored_bytes"] == needed, "the whole image")
            self.assertEqual(m.status()["reads"]["reads"], 0)
            got = []
            with testbed.stopped_server(m):
                self.assertTrue(within(20, lambda: got.append(f.read())))
            self.assertTrue(got[0] == self.content[name])
            self.assertEqual(m.status()["reads"]["misses"], 0)

    def test_bulk_no_leaves_memory_images_to_demand_and_prefetch_brings_any_file(self):
        m = self.mount("bulk=no")
        needed = 0
        for name in "vm/machine.vmem", "vm/disk.raw":
            needed += sum(e - b for b, e in testbed.data_extents(self.content[name]))
            with open(m.path / name, "rb", buffering=0) as f:
                self.assertLess(m.status()["cache"]["stored_bytes"], needed)
                run(testbed.SLIPWAY, "prefetch", m.path / name)
                self.assertEqual(m.status()["cache"]["stored_bytes"], needed)
                got = []
                with testbed.stopped_server(m):
                    self.assertTrue(within(20, lambda: got.append(f.read())))
                self.assertTrue(got[0] == self.content[name])
        self.assertNotEqual(run(testbed.SLIPWAY, "prefetch", m.path / "absent",
                                check=False).returncode, 0)

    def test_prefetch_of_what_the_cache_is_too_small_for_is_refused(self):
        m = self.mount("cache_size=1M", "bulk=no")
        told = run(testbed.SLIPWAY, "prefetch", m.path / "vm/machine.vmem", check=False)
        self.assertNotEqual(told.returncode, 0)
        self.assertIn("the cache is too small for it", told.stderr)
        self.check_read(m, "vm/machine.vmem")

    def test_manifest_no_asks_for_none(self):
        m = self.mount("manifest=no")
        self.check_read(m, "vm/disk.raw")
        self.assertEqual(m.status()["prefetch"]["manifests"], 0)

    def test_a_file_that_changed_is_read_as_it_is_until_it_is_published_again(self):
        names = [f"changed/{kind}.raw" for kind in ("content", "truncated", "replaced")]
        m = self.mount("attr_timeout=0")
        for name in names:
            self.check_read(m, name)
            path = self.export / name
            before = os.stat(path)
            # In what was zero, and with the times and, but for one, the size of what was published.
            new = bytearray(self.content[name])
            new[UNIT:2 * UNIT] = os.urandom(UNIT)
            if "truncated" in name:
                new = new[:1_500_000]
            if "replaced" in name:
                path = self.dir / "new"
            with open(path, "r+b" if path.exists() else "w+b") as f:
                f.write(new)
                f.truncate()
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            if "replaced" in name:
                os.rename(path, self.export / name)
            self.content[name] = bytes(new)
        manifests = m.status()["prefetch"]["manifests"]
        self.assertEqual(manifests, len(names))
        for name in names:
            with self.subTest(name):
                self.check_read(m, name)
                facts = manifest(self.export / name)
                self.assertIn((facts["state"], facts["reason"]),
                              [("none", "it is not published")] if "replaced" in name else
                              [("stale", "the file changed since it was published"),
                               ("stale", "the file's change time moved since it was published")])
        m.umount()
        m.__enter__()  # with its cache
        for name in names:
            self.check_read(m, name)
        self.assertEqual(m.status()["prefetch"]["manifests"], 0)
        m.umount()
        testbed.publish(self.export / "changed")
        for prepare in (lambda mount: mount, self.with_empty_cache):
            with prepare(self.mounted()) as m:
                for name in names:
                    with self.subTest(name):
                        self.check_read(m, name)
                        self.assertEqual(manifest(self.export / name)["state"], "valid")
                self.assertEqual(m.status()["prefetch"]["manifests"], len(names))

    def change_while_open(self, name, restore):
        """Reads a file, unit by unit and its end first, after another content with no zeros took
        its place while it was open. What came, and None where it was refused."""
        path = self.export / name
        new = random.Random(name).randbytes(len(self.content[name]))
        m = self.mount("readahead=off", "attr_timeout=0")
        with open(m.path / name, "rb", buffering=0) as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # nor readahead by the kernel
            self.assertTrue(os.pread(f.fileno(), UNIT, UNIT) == bytes(UNIT))
            self.assertEqual(m.status()["prefetch"]["manifests"], 1)
            before = os.stat(path)
            with open(path, "r+b") as there:
                there.write(new)
            if restore:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            got = []
            # Not what was read before: that is in the kernel's page cache.
            for unit in [len(new) // UNIT - 1, 0, *range(2, len(new) // UNIT)]:
                try:
                    got.append((unit, os.pread(f.fileno(), UNIT, unit * UNIT)))
                except OSError as e:
                    self.assertEqual(e.errno, errno.ESTALE)
                    got.append((unit, None))
        self.assertTrue((m.path / name).read_bytes() == new)
        return new, got

    def test_an_open_file_that_changes_is_never_a_mixture(self):
        name = "held/moved.raw"
        _, got = self.change_while_open(name, restore=False)
        self.assertIsNone(got[0][1])
        for unit, came in got:
            if came is not None:
                self.assertTrue(came == self.content[name][unit * UNIT:(unit + 1) * UNIT], unit)

    def test_zeros_of_a_manifest_are_not_served_once_the_file_is_known_to_have_changed(self):
        name = "held/restored.raw"
        new, got = self.change_while_open(name, restore=True)
        stale = [unit for unit, came in got if came is not None and not any(came)]
        self.assertEqual(stale, [], f"{len(new) // UNIT} units, none of them zero")

    def test_damage_to_what_publish_left_never_shows(self):
        name = "damaged/frames.vmem"
        pack = self.state / "frames" / self.said[name]["root"]
        flip(pack, 0.25, 0.5, 0.75)
        self.assertNotEqual(testbed.slipwayd("manifest", "check", self.export / name,
                                             check=False).returncode, 0)
        flip(self.manifest_file("damaged/leaves.raw"), 1.0)
        flip(self.manifest_file("damaged/head.raw"), 0.01)
        with open(self.manifest_file("damaged/short.raw"), "r+b") as f:
            f.truncate(f.seek(0, os.SEEK_END) - 1)
        for name in "damaged/head.raw", "damaged/short.raw":
            self.assertEqual(manifest(self.export / name)["state"], "unusable")
        m = self.mount()
        for name in ("frames.vmem", "leaves.raw", "head.raw", "short.raw"):
            with self.subTest(name):
                self.check_read(m, f"damaged/{name}")
        self.assertEqual(m.status()["prefetch"]["manifests"], 2)
        m.umount()
        testbed.slipwayd("publish", "--force", self.export / "damaged")
        for name in ("frames.vmem", "leaves.raw", "head.raw", "short.raw"):
            testbed.slipwayd("manifest", "check", self.export / "damaged" / name)

    def test_a_planted_manifest_is_not_believed(self):
        os.chown(self.manifest_file("planted/foreign.raw"), NOBODY, NOBODY)
        os.chmod(self.manifest_file("planted/writable.raw"), 0o666)
        link = self.manifest_file("planted/link.raw")
        shutil.move(link, self.dir / "moved")
        os.symlink(self.dir / "moved", link)
        self.assertEqual(os.stat(self.manifest_file("planted/theirs.raw")).st_uid, NOBODY)
        m = self.mount()
        for name, state in (("foreign", "unusable"), ("writable", "unusable"),
                            ("link", "unusable"), ("theirs", "valid")):
            with self.subTest(name):
                facts = manifest(self.export / f"planted/{name}.raw")
                self.assertEqual(facts["state"], state, facts["reason"])
                known = m.status()["prefetch"]["manifests"]
                self.check_read(m, f"planted/{name}.raw")
                known = m.status()["prefetch"]["manifests"] - known
                self.assertEqual(known, 1 if state == "valid" else 0)

    def test_a_pin_refuses_any_other_content_and_a_root_survives_replacement(self):
        name = "pin/disk.raw"
        root = self.said[name]["root"]
        other = self.said["vm/disk.raw"]["root"]
        rooted = f"{name}@{root}"
        with self.mounted(f"pin={name}@{root}") as m:
            self.check_read(m, name)
            self.assertTrue((m.path / rooted).read_bytes() == self.content[name])
            self.assertEqual(os.listdir(m.path / "pin"), ["disk.raw"])
            for absent in f"{name}@{'0' * 64}", f"pin/{'0' * 64}", f"{name}@{root[:-1]}":
                with self.assertRaises(OSError) as e:
                    os.stat(m.path / absent)
                self.assertEqual(e.exception.errno, errno.ENOENT)
        with self.mounted(f"pin={name}@{other}") as m:
            with self.assertRaises(OSError) as e:
                open(m.path / name, "rb")
            self.assertEqual(e.exception.errno, errno.EIO)
            self.check_read(m, "vm/disk.raw")
        new = testbed.patterned_image(self.dir / "new", SMALL, 99)
        with self.with_empty_cache(self.mounted(f"pin={name}@{root}", "attr_timeout=0")) as m:
            os.rename(self.dir / "new", self.export / name)
            with self.assertRaises(OSError) as e:
                open(m.path / name, "rb")
            self.assertEqual(e.exception.errno, errno.EIO)
            self.assertTrue((m.path / rooted).read_bytes() == self.content[name])
        with self.with_empty_cache(self.mounted()) as m:
            self.assertTrue((m.path / name).read_bytes() == new)
            self.assertTrue((m.path / rooted).read_bytes() == self.content[name])

    def test_what_is_unpublished_or_gone_is_forgotten_and_the_rest_stays(self):
        def stays(name):
            self.assertEqual(manifest(self.export / name)["state"], "valid")
            testbed.slipwayd("manifest", "check", self.export / name)

        def kept(name):
            root = self.said[name]["root"]
            return [d for d in ("roots", "frames") if (self.state / d / root).exists()]

        a, b, c = (f"forget/{name}.raw" for name in "abc")
        dry = testbed.slipwayd("unpublish", "--dry-run", self.export / a).stdout
        self.assertIn("would remove 1 manifests", dry)
        stays(a)
        testbed.slipwayd("unpublish", self.export / a)
        self.assertEqual(manifest(self.export / a)["state"], "none")
        self.assertEqual((kept(a), kept(b)), ([], ["roots"]))
        c_manifest = self.manifest_file(c)
        os.unlink(self.export / c)
        testbed.slipwayd("gc", "--keep-roots", self.export)
        self.assertEqual(kept(c), ["roots"])
        self.assertTrue(c_manifest.exists())
        testbed.slipwayd("gc", self.export)
        self.assertEqual(kept(c), [])
        self.assertFalse(c_manifest.exists())
        stays(b)
        m = self.mount()
        for name in a, b:
            self.check_read(m, name)
        self.assertEqual(m.status()["prefetch"]["manifests"], 1)

    def test_a_copied_export_is_taken_over_by_rebind(self):
        copy = self.dir / "copy"
        run("cp", "-a", self.export, copy)
        self.assertNotEqual(manifest(copy / "vm/machine.vmem")["state"], "valid")
        with self.mounted(source=f"local:{copy}") as m:
            self.assertTrue((m.path / "vm/disk.raw").read_bytes() == self.content["vm/disk.raw"])
            self.assertEqual(m.status()["prefetch"]["manifests"], 0)
        # The times of the links' owners move, so what is told is looked at before.
        said = testbed.publish("--rebind", copy / "vm")
        self.assertTrue(all(line["rebound"] for line in said.values()), said)
        for name in "vm/machine.vmem", "vm/disk.raw":
            self.assertEqual(said[name]["root"], self.said[name]["root"])
            testbed.slipwayd("manifest", "check", copy / name)
        with self.with_empty_cache(self.mounted(source=f"local:{copy}")) as m:
            self.check_read(m, "vm/machine.vmem")
            self.assertEqual(m.status()["prefetch"]["manifests"], 1)


class Immutable(Published):
    """Published images are written to by nobody, whatever the mount knows of them, unless it has
    `write_published`."""

    IMAGES = {"golden/small.raw": 4, "golden/large.raw": 256, "ours/small.raw": 4,
              "ours/large.raw": 256, "moved/disk.raw": 4}

    def assert_read_only(self, call):
        with self.assertRaises(OSError) as e:
            call()
        self.assertEqual(e.exception.errno, errno.EROFS)

    def check_refused(self, mount, name):
        path = mount.path / name
        for call in (lambda: open(path, "r+b"), lambda: open(path, "r+b"),
                     lambda: open(path, "ab"), lambda: open(path, "wb"),
                     lambda: os.truncate(path, 100), lambda: os.utime(path, (1, 1))):
            self.assert_read_only(call)
        self.check_read(mount, name)
        self.assert_read_only(lambda: open(path, "r+b"))  # now that all is cached
        self.assertEqual((self.export / name).read_bytes(), self.content[name])
        self.assertTrue(self.manifest_file(name).exists())

    def test_a_published_image_is_opened_for_writing_by_nobody(self):
        for options in ([], ["manifest=no"], ["lease=no"], ["write=through"]):
            with self.with_empty_cache(self.mounted("profile=off", *options)) as m:
                for name in ("golden/small.raw", "golden/large.raw"):
                    with self.subTest(name=name, options=options):
                        self.check_refused(m, name)

    def test_with_writable_opens_it_is_opened_and_the_write_is_refused(self):
        for options in ([], ["manifest=no"]):
            with self.with_empty_cache(self.mounted("profile=off", "writable_opens", *options)) as m:
                for name in ("golden/small.raw", "golden/large.raw"):
                    for _ in range(2):
                        with self.subTest(name=name, options=options), \
                                open(m.path / name, "r+b", buffering=0) as f:
                            self.assertEqual(f.read(1000), self.content[name][:1000])
                            self.assert_read_only(lambda f=f: os.pwrite(f.fileno(), b"new", 0))
                    self.assert_read_only(lambda n=name: open(m.path / n, "wb"))
                (m.path / "golden/new").write_bytes(b"what is not published is written to")
                with open(m.path / "golden/new", "r+b") as f:
                    f.write(b"WHAT")
            self.assertEqual((self.export / "golden/new").read_bytes()[:8], b"WHAT is ")

    def test_two_mounts_open_it_at_once_with_writable_opens(self):
        """It needs no lease: nobody waits for the other."""
        with self.mounted("profile=off", "writable_opens", "lease_wait=60") as one:
            other = self.mounted("profile=off", "writable_opens", "lease_wait=60")
            other.path, other.cache = self.dir / "other", self.dir / "other-cache"
            with other, open(one.path / "golden/large.raw", "r+b"):
                self.assertTrue(within(20, lambda: open(other.path / "golden/large.raw", "r+b")
                                       .close()))

    def test_with_write_published_it_is_changed_and_no_longer_published(self):
        with self.mounted("profile=off", "write_published") as m:
            for name in ("ours/small.raw", "ours/large.raw"):
                manifest_file = self.manifest_file(name)
                with open(m.path / name, "r+b") as f:
                    f.write(b"changed")
                self.assertFalse(manifest_file.exists())
        for name in ("ours/small.raw", "ours/large.raw"):
            self.assertEqual((self.export / name).read_bytes(), b"changed" + self.content[name][7:])
        with self.mounted("profile=off") as m, open(m.path / "ours/small.raw", "r+b") as f:
            f.write(b"CHANGED")  # it is a file like others now
        self.assertEqual((self.export / "ours/small.raw").read_bytes()[:7], b"CHANGED")

    def test_under_another_name_or_mode_it_is_published_all_the_same(self):
        with self.mounted("profile=off") as m:
            os.rename(m.path / "moved/disk.raw", m.path / "moved/other.raw")
            self.assert_read_only(lambda: open(m.path / "moved/other.raw", "r+b"))
            os.chmod(m.path / "moved/other.raw", 0o600)
            self.assert_read_only(lambda: open(m.path / "moved/other.raw", "r+b"))
            os.link(m.path / "moved/other.raw", m.path / "moved/link.raw")
            self.assert_read_only(lambda: open(m.path / "moved/link.raw", "r+b"))
            os.unlink(m.path / "moved/link.raw")
            self.assertEqual((m.path / "moved/other.raw").read_bytes(),
                             self.content["moved/disk.raw"])


class SmallFiles(Published):
    """Small files travel with their directory, published or not."""

    IMAGES = {"vm/disk.raw": SMALL}
    SMALL_FILES = {"machine.vmsd": 200, "disk.vmdk": 700, "machine.nvram": 270_000,
                   "machine.vmxf": 3000}

    @classmethod
    def prepare(cls):
        (cls.export / "vm/machine.vmx").write_text(VMX)
        for name, size in cls.SMALL_FILES.items():
            testbed.random_file(cls.export / "vm" / name, size)
        time.sleep(2.2)  # a file that has just changed is read again at its next open

    def read_small_files(self, mount):
        """What reading them one after the other costs: requests, and reads that waited."""
        before = mount.status()
        for name in self.SMALL_FILES:
            self.assertEqual((mount.path / "vm" / name).read_bytes(),
                             (self.export / "vm" / name).read_bytes())
        after = mount.status()
        return (after["link"]["requests"] - before["link"]["requests"],
                after["reads"]["misses"] - before["reads"]["misses"])

    def test_opening_a_machine_brings_its_small_files_whose_reads_then_cost_no_round_trip(self):
        with self.with_empty_cache(self.mounted("profile=off", "bulk=no")) as m:
            (m.path / "vm/machine.vmx").read_bytes()
            requests, misses = self.read_small_files(m)
            self.assertGreaterEqual(misses, len(self.SMALL_FILES))
        with self.with_empty_cache(self.mounted("profile=off")) as m:
            (m.path / "vm/machine.vmx").read_bytes()
            wait_for(lambda: m.status()["prefetch"]["whole_files"] >= len(self.SMALL_FILES),
                     "the small files")
            cheap, cheap_misses = self.read_small_files(m)
        print(f"{requests} requests and {misses} waits, with their directory {cheap} and "
              f"{cheap_misses}")
        self.assertEqual(cheap_misses, 0)
        self.assertLessEqual(cheap, requests - len(self.SMALL_FILES))
        # The next mount has them already.
        with self.mounted("profile=off") as m:
            (m.path / "vm/machine.vmx").read_bytes()
            self.assertEqual(self.read_small_files(m)[1], 0)
            self.assertEqual(m.status()["link"]["bytes_received"] // 100_000, 0)

    def test_what_was_brought_is_not_believed_when_the_file_has_changed(self):
        shutil.copytree(self.export / "vm", self.export / "other")
        time.sleep(2.2)
        with self.with_empty_cache(self.mounted("profile=off", "attr_timeout=0")) as m:
            (m.path / "other/machine.vmx").read_bytes()
            wait_for(lambda: m.status()["prefetch"]["whole_files"] >= len(self.SMALL_FILES),
                     "the small files")
            for name, size in self.SMALL_FILES.items():
                testbed.random_file(self.export / "other" / name, size)
                self.assertEqual((m.path / "other" / name).read_bytes(),
                                 (self.export / "other" / name).read_bytes())


class Versions(Published):
    UNITS = 1536

    @classmethod
    def prepare(cls):
        (cls.export / "vm").mkdir()
        testbed.random_file(cls.export / "vm/disk.raw", cls.UNITS * UNIT)

    def change(self, seed):
        """One unit of twenty, in place."""
        with open(self.export / "vm/disk.raw", "r+b") as f:
            for unit in random.Random(seed).sample(range(self.UNITS), self.UNITS // 20):
                os.pwrite(f.fileno(), os.urandom(UNIT), unit * UNIT)
        time.sleep(2.2)
        testbed.publish(self.export)

    def received_for(self, mount):
        before = mount.status()["link"]["bytes_received"]
        run(testbed.SLIPWAY, "prefetch", mount.path / "vm/disk.raw")
        received = mount.status()["link"]["bytes_received"] - before
        self.assertEqual((mount.path / "vm/disk.raw").read_bytes(),
                         (self.export / "vm/disk.raw").read_bytes())
        return received / (self.UNITS * UNIT)

    def test_the_next_version_of_an_image_changed_in_place_fetches_what_is_new(self):
        with self.mounted("profile=off", "attr_timeout=0") as m:
            self.assertGreater(self.received_for(m), 0.95)
            self.change(1)
            self.assertLess(self.received_for(m), 0.07)
            self.change(2)
            self.assertLess(self.received_for(m), 0.07)
        self.change(3)
        with self.mounted("profile=off") as m:
            share = self.received_for(m)
            wait_for(lambda: m.status()["cache"]["used"] < 1.3 * self.UNITS * UNIT,
                     "the space of the version before")
        print(f"{share:.3f} of its bytes received")
        self.assertLess(share, 0.07)


class Profiles(Published):
    IMAGES = {"box/disk.raw": 768, "learn/disk.raw": SMALL}

    def box(self, name):
        """The profiles of an image."""
        inode = os.stat(self.export / name).st_ino
        return {p for p in (self.state / "profiles").iterdir() if f"-{inode}-start-" in p.name}

    def test_a_user_who_can_only_read_leaves_a_profile_and_off_asks_for_none(self):
        name = "learn/disk.raw"
        sshd = Sshd(self.dir, forced_command=f"{testbed.SLIPWAYD} session --restrict-to "
                                             f"{self.export} --read-only")
        sshd.__enter__()
        self.addCleanup(sshd.__exit__)
        here = {"source": f"server:{self.export}"}
        read_only = [sshd.options()[0]]

        def start(*options):
            with self.with_empty_cache(self.mounted(*read_only, *options, **here)) as m:
                self.check_read(m, name)
                return m.status()["prefetch"]["profiles_received"]

        for option, received, left in (("profile=off", 0, 0), ("profile=use", 0, 0),
                                       ("profile=learn", 0, 1), ("profile=off", 0, 1),
                                       ("profile=use", 1, 1), ("role=other", 0, 1),
                                       ("profile=learn", 1, 2)):
            with self.subTest(option):
                self.assertEqual(start(option), received)
                self.assertEqual(len(self.box(name)), left)

    def test_planted_profiles_do_no_harm(self):
        name = "box/disk.raw"
        places = [UNIT * u for u in (3, 100, 203, 204, 700, 613)]

        def start():
            with self.with_empty_cache(self.mounted("readahead=off")) as m:
                with open(m.path / name, "rb", buffering=0) as f:
                    for at in places:
                        self.assertTrue(os.pread(f.fileno(), UNIT, at)
                                        == self.content[name][at:at + UNIT])
                return m.status()

        learned = start()["prefetch"]["touched_units"]
        real = self.box(name).pop()
        owner, file_system, inode, role, _ = real.name.split("-")
        self.assertEqual((owner, role), ("0", "start"))

        def plant(number, uid, make):
            path = real.with_name(f"{uid}-{file_system}-{inode}-start-{number:032x}")
            make(path)
            return path

        garbage = plant(1, 0, lambda p: p.write_bytes(b"SLIPPROF" + os.urandom(3000)))
        plant(2, 0, lambda p: os.symlink("/etc/passwd", p))
        plant(3, 0, os.mkfifo)
        plant(4, 0, os.mkdir)

        def huge(path):
            shutil.copy(real, path)
            os.truncate(path, 1 << 34)

        def anothers(path):
            shutil.copy(real, path)
            flip(path, 1.0)
            os.chown(path, NOBODY, NOBODY)

        plant(5, 0, huge)
        plant(6, 0, anothers)  # the name says root
        plant(7, NOBODY, lambda p: (p.write_bytes(real.read_bytes()[:-3] + b"???"),
                                    os.chown(p, NOBODY, NOBODY)))
        plant(8, 0, lambda p: p.write_bytes(b""))
        real.with_name("nonsense").write_text("nonsense")
        real.with_name(f"{'9' * 40}-{file_system}-{inode}-start-{'0' * 32}").write_text("")
        status = start()
        self.assertEqual(status["prefetch"]["profiles_received"], 1)
        self.assertEqual(status["prefetch"]["predicted_touched_units"], learned)
        self.assertLess(status["link"]["bytes_received"], 1 << 20)
        real.unlink()
        for left in self.box(name):
            if left.is_file() and not left.is_symlink() and left.stat().st_size < 1000:
                left.unlink()
        self.assertTrue(garbage.exists())
        status = start()
        self.assertEqual(status["prefetch"]["profiles_received"], 0)


class OverTheLink(unittest.TestCase):
    RTT = 0.02

    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        self.export = self.dir / "export"
        self.export.mkdir()
        testbed.slipwayd("init", self.export)

    def start(self, **kwargs):
        self.link = Link(**kwargs)
        self.link.__enter__()
        self.addCleanup(self.link.__exit__)
        self.sshd = Sshd(self.dir, link=self.link)
        self.sshd.__enter__()
        self.addCleanup(self.sshd.__exit__)

    def mounted(self, *options):
        return Mount(f"server:{self.export}", self.dir, [*self.sshd.options(), *options],
                     link=self.link)

    def test_a_bulk_transfer_goes_on_where_a_killed_client_left_it_and_lets_demand_pass(self):
        size = 16 << 20
        memory, disk = self.export / "m.vmem", self.export / "d.raw"
        testbed.random_file(memory, size)
        testbed.random_file(disk, size)
        testbed.publish(self.export)
        # The queue of the link holds two round trips: what a deep one adds, any sender suffers.
        self.start(rtt_ms=int(self.RTT * 1000), rate_mbit=40, queue_kb=200)
        m = self.mounted("readahead=off", "profile=off")
        m.__enter__()
        self.addCleanup(m.__exit__)
        m.wait_transport("tcp")
        with open(m.path / "d.raw", "rb", buffering=0) as f, open(m.path / "m.vmem", "rb"):
            seconds = []
            wait_for(lambda: m.status()["cache"]["stored_bytes"] > 1 << 20, "the transfer")
            for i in range(15):
                at = (i * 104729 * 4096) % size // UNIT * UNIT
                began = time.monotonic()
                os.pread(f.fileno(), 4096, at)
                seconds.append(time.monotonic() - began)
            during = m.status()
            print(f"demand during bulk: median {statistics.median(seconds) * 1000:.0f} ms, "
                  f"worst {max(seconds) * 1000:.0f} ms")
            self.assertLess(during["cache"]["stored_bytes"], size * 3 // 4)
            self.assertLess(statistics.median(seconds), 5 * self.RTT)
            wait_for(lambda: m.status()["cache"]["stored_bytes"] > size // 2, "half of the image")
            came = m.status()["cache"]["stored_bytes"]
            testbed.kill_pid(m.status()["pid"])
        m.umount()
        m.__enter__()
        with open(m.path / "m.vmem", "rb", buffering=0) as f:
            wait_for(lambda: (s := m.status())["prefetch"]["images"] == 0
                     and s["cache"]["stored_bytes"] > 0, "the rest", timeout=30)
            received = m.status()["link"]["bytes_received"]
            self.assertTrue(f.read() == memory.read_bytes())
            self.assertEqual(m.status()["reads"]["misses"], 0)
        print(f"{came} bytes came before the cut, {received} were received after it")
        self.assertLess(received, size - came + (3 << 20))

    @unittest.skipUnless(shutil.which("linux.uml"), "no user-mode-linux")
    def test_a_guest_boots_with_what_an_earlier_boot_on_another_host_has_learned(self):
        image = self.export / "disk.img"
        testbed.make_guest_image(image, script="md5sum /data/payload", payload_mb=4)
        testbed.publish(self.export)
        self.start(rtt_ms=int(self.RTT * 1000), rate_mbit=200)
        seen = []
        for boot in "first", "second":
            shutil.rmtree(self.dir / "cache", ignore_errors=True)
            with self.mounted("readahead=off") as m:
                m.wait_transport("tcp")
                console, seconds = testbed.boot_uml(m.path / "disk.img", self.dir / f"cow-{boot}")
                self.assertIn("guest: done 42", console)
                status = m.status()
                print(f"{boot}: {seconds:.1f} s, {status['reads']['misses']} misses")
                seen.append(status)
        first, second = seen
        self.assertEqual(first["prefetch"]["profiles_received"], 0)
        self.assertGreaterEqual(second["prefetch"]["profiles_received"], 1)
        self.assertGreater(second["prefetch"]["precision"], 0.5)
        self.assertGreater(second["prefetch"]["recall"], 0.5)
        self.assertLess(second["reads"]["misses"], first["reads"]["misses"] / 3)


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
