"""fio writes at random and verifies every block that it wrote: through the page cache, directly, by
mappings, and again after a remount with an empty page cache and with an empty cache."""

import os
import shutil
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import drop_caches, run
from writing import WritingTest


class Fio(WritingTest):
    options = ("cache_size=256M",)

    def fio(self, directory, name, size, *options):
        result = run("fio", f"--name={name}", f"--directory={directory}",
                     f"--size={size}", "--rw=randwrite", "--bs=4k", "--verify=crc32c",
                     "--verify_fatal=1", "--randseed=4", "--output-format=terse", *options,
                     check=False, timeout=120)
        self.assertEqual(result.returncode, 0, result.stdout[-2000:] + result.stderr[-2000:])

    def verify(self, directory, name, size, *options):
        self.fio(directory, name, size, "--verify_only=1", *options)

    def check_everywhere(self, name, size, *options):
        """What fio wrote and verified is there on the server, too, and behind an empty cache."""
        self.flush()
        self.verify(self.there, name, size, *options)
        self.mount.umount()
        drop_caches()
        self.mount.__enter__()
        self.verify(self.here, name, size, *options)
        self.mount.umount()
        shutil.rmtree(self.mount.cache)
        drop_caches()
        self.mount.__enter__()
        self.verify(self.here, name, size, *options)
        self.assertEqual(self.mount.status()["writes"]["conflicts"], [])

    def test_random_writes_through_the_page_cache_verify(self):
        self.fio(self.here, "buffered", "64m", "--ioengine=psync", "--verify_backlog=1024")
        self.check_everywhere("buffered", "64m")

    def test_random_direct_writes_at_a_depth_verify(self):
        options = ("--ioengine=libaio", "--iodepth=16", "--direct=1")
        self.fio(self.here, "direct", "64m", *options)
        self.check_everywhere("direct", "64m")

    def test_random_writes_of_any_size_with_syncs_between_verify(self):
        options = ("--bsrange=512-64k", "--bs_unaligned=1", "--fdatasync=200", "--numjobs=2")
        self.fio(self.here, "mixed", "24m", "--ioengine=psync", *options)

    def test_mapped_random_writes_verify(self):
        self.fio(self.here, "mapped", "16m", "--ioengine=mmap", "--fsync=500")
        self.check_everywhere("mapped", "16m")


if __name__ == "__main__":
    if lack := testbed.missing() or (None if shutil.which("fio") else "no fio"):
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
