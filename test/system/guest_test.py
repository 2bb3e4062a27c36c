"""A real guest: user-mode Linux boots from a disk on the mount, cold and warm."""

import os
import re
import shutil
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import Mount, Sshd, TempTree


class Guest(unittest.TestCase):
    def test_user_mode_linux_boots_from_the_mount_cold_and_warm(self):
        with TempTree() as d:
            (d / "export").mkdir()
            image = d / "export/disk.img"
            testbed.make_guest_image(image, script="md5sum /data/payload")
            os.utime(image, (1000, 1000))
            with Sshd(d) as sshd:
                m = Mount(f"server:{d}/export", d, sshd.options())
                seen = []
                for boot in ("cold", "warm"):
                    with m:
                        console, seconds = testbed.boot_uml(m.path / "disk.img", d / f"cow-{boot}")
                        self.assertIn("guest: done 42", console)
                        seen.append(re.search(r"[0-9a-f]{32}", console).group())
                        received = m.status()["link"]["bytes_received"]
                        print(f"{boot}: {seconds:.1f} s, {received} bytes received")
                self.assertEqual(seen[0], seen[1])
                self.assertLess(received, 1_000_000)


if __name__ == "__main__":
    lack = testbed.missing() or (None if shutil.which("linux.uml") else "no user-mode-linux")
    if lack:
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
