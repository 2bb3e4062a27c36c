"""A suspended QEMU guest goes on from its memory on the mount, mapped while it still comes."""

import os
import re
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import qemu
import testbed
from testbed import SLIPWAYD, Link, Mount, Sshd, TempTree, run

MEMORY_MB = 192
# Something that a resumed guest must still have right, and a counter that goes on.
SCRIPT = """
dd if=/dev/urandom of=/tmp/kept bs=64k count=512 2>/dev/null
sum=$(md5sum </tmp/kept)
echo "guest: up"
(i=0; while :; do i=$((i+1)); echo "tick $i"; sleep 1; done) &
while read -r line; do eval "$line"; done
"""
CHECK = 'test "$sum" = "$(md5sum </tmp/kept)" && echo "guest: kept $((6*7))"'
TICK = r"tick (\d+)\r?\n"


def ticks(console):
    return [int(n) for n in re.findall(TICK, console)]


class Resume(unittest.TestCase):
    def suspend(self, d):
        """A guest, its memory and state in the export."""
        qemu.make_initramfs(d / "initramfs", SCRIPT, modules=())
        guest = qemu.Guest(d / "initramfs", MEMORY_MB)
        with qemu.Qemu(guest, d / "export/vm.vmem") as q:
            q.wait_console("tick 3")
            q.suspend(d / "export/vm.state")
            self.last = ticks(q.text())[-1]
        for name in ("vm.vmem", "vm.state"):
            os.utime(d / "export" / name, (1000, 1000))
        run(SLIPWAYD, "init", d / "export")
        run(SLIPWAYD, "publish", d / "export", timeout=120)
        # Nothing is believed of a file that changed less than 2 s ago, be it only by a new link.
        changed = os.stat(d / "export/vm.vmem").st_ctime
        testbed.wait_for(lambda: time.time() > changed + 2.5, "the clock")
        return guest

    def goes_on(self, q):
        """The guest counts on from where it was, nothing of its memory has changed, and no wild
        pointer was followed."""
        start = q.say(CHECK)
        q.wait_console("guest: kept 42", start=start)
        q.wait_console(f"tick {self.last + 2}\r?\n")
        console = q.text()
        seen = ticks(console)
        self.assertEqual(seen, list(range(seen[0], seen[-1] + 1)), console)
        # A line or two may have been on their way from the console when the guest was suspended.
        self.assertIn(seen[0], range(self.last, self.last + 3), console)
        for word in ("Oops", "BUG", "panic", "segfault", "I/O error"):
            self.assertNotIn(word, console)

    def test_a_suspended_guest_goes_on_from_the_mount_while_its_memory_comes(self):
        with TempTree() as d:
            (d / "export").mkdir()
            guest = self.suspend(d)
            image = (d / "export/vm.vmem").read_bytes()
            with Link(rate_mbit=50) as link, Sshd(d, link=link) as sshd:
                mount = Mount(f"server:{d}/export", d,
                              [*sshd.options(), "writable_opens"], link=link)
                with mount as m:
                    with qemu.Qemu(guest, m.path / "vm.vmem", m.path / "vm.state") as q:
                        coming = m.status()["prefetch"]
                        self.assertEqual(coming["images"], 1, "the transfer runs meanwhile")
                        self.assertLess(coming["bytes_done"], coming["bytes_total"])
                        self.goes_on(q)
                        testbed.wait_for(lambda: m.status()["prefetch"]["images"] == 0,
                                         "the whole memory", timeout=120)
                        # All of it is here: the guest needs the server no longer.
                        link.tell("cut")
                        self.goes_on_for_a_while(q)
                        link.tell("restore")
                    self.assertEqual((m.path / "vm.vmem").read_bytes(), image,
                                     "what the guest wrote is its own")
                    status = m.status()
                    nonzero = sum(len(unit) for i in range(0, len(image), 16384)
                                  if any(unit := image[i:i + 16384]))
                    asked = status["reads"]["demand_bytes"] + status["reads"]["prefetch_bytes"]
                    self.assertLessEqual(asked, nonzero + (d / "export/vm.state").stat().st_size)
                # Again, on the same host: from the cache, with hardly a byte from the server.
                with mount as m:
                    with qemu.Qemu(guest, m.path / "vm.vmem", m.path / "vm.state") as q:
                        self.goes_on(q)
                    self.assertLess(m.status()["link"]["bytes_received"], 1_000_000)
            self.assertEqual((d / "export/vm.vmem").read_bytes(), image)

    def goes_on_for_a_while(self, q):
        now = ticks(q.text())[-1]
        start = q.say(CHECK)
        q.wait_console("guest: kept 42", start=start)
        q.wait_console(f"tick {now + 2}\r?\n")


if __name__ == "__main__":
    lack = testbed.missing() or qemu.missing()
    if lack:
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
