"""QEMU (TCG) boots a Debian kernel whose root disk is on the mount, changes kept in an overlay."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import Mount, Sshd, TempTree


def newest(pattern):
    found = sorted(pathlib.Path("/boot").glob(pattern))
    return found[-1] if found else None


KERNEL, INITRD = newest("vmlinuz-*"), newest("initrd.img-*")


def boot(overlay, timeout=280):
    """Boots until the guest powers off; its console."""
    return subprocess.run(
        ["qemu-system-x86_64", "-accel", "tcg", "-m", "256M", "-display", "none", "-serial",
         "stdio", "-net", "none", "-no-reboot", "-kernel", str(KERNEL), "-initrd", str(INITRD),
         "-append", "console=ttyS0 root=/dev/vda rw init=/init quiet",
         "-drive", f"file={overlay},format=qcow2,if=virtio"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=timeout, check=False).stdout.decode(errors="replace")


class Qemu(unittest.TestCase):
    def test_qemu_boots_from_the_mount_cold_and_warm(self):
        with TempTree() as d:
            (d / "export").mkdir()
            image = d / "export/disk.img"
            testbed.make_guest_image(image, script="md5sum /data/payload; echo x > /data/new; sync")
            os.utime(image, (1000, 1000))
            before = image.read_bytes()
            with Sshd(d) as sshd:
                m = Mount(f"server:{d}/export", d, sshd.options())
                seen = []
                for name in ("cold", "warm"):
                    with m:
                        overlay = d / f"{name}.qcow2"
                        testbed.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                                    m.path / "disk.img", overlay)
                        console = boot(overlay)
                        self.assertIn("guest: done 42", console, console[-2000:])
                        seen.append(re.search(r"[0-9a-f]{32}", console).group())
                        received = m.status()["link"]["bytes_received"]
                        print(f"{name}: {received} bytes received")
                self.assertEqual(seen[0], seen[1])
                self.assertLess(received, 1_000_000)
            self.assertEqual(image.read_bytes(), before)


if __name__ == "__main__":
    lack = testbed.missing()
    if not lack and not (KERNEL and INITRD and shutil.which("qemu-img")
                         and shutil.which("qemu-system-x86_64")):
        lack = "no QEMU, or no kernel and initrd in /boot"
    if lack:
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
