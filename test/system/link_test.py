"""A mount over an emulated wide-area link that is cut, blocked and restored, and whose server side
is killed, while reads wait."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import Link, Mount, Sshd, TempTree, wait_for

UNIT = 16 * 1024


class LinkTest(unittest.TestCase):
    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        self.export = self.dir / "export"
        self.export.mkdir()
        self.size = 16 * 1024 * 1024
        testbed.random_file(self.export / "disk", self.size)
        os.utime(self.export / "disk", (1000, 1000))
        self.want = (self.export / "disk").read_bytes()
        self.link = Link(rtt_ms=10, rate_mbit=400)
        self.link.__enter__()
        self.addCleanup(self.link.__exit__)
        self.sshd = None

    def start_sshd(self, **kwargs):
        self.sshd = Sshd(self.dir, link=self.link, **kwargs)
        self.sshd.__enter__()
        self.addCleanup(self.sshd.__exit__)

    def mount(self, *options):
        if self.sshd is None:
            self.start_sshd()
        m = Mount(f"server:{self.export}", self.dir, [*self.sshd.options(), *options],
                  link=self.link)
        m.__enter__()
        self.addCleanup(m.__exit__)
        return m

    def server_pids(self):
        """Processes of `slipwayd session` in the server's namespace."""
        inside = testbed.run("ip", "netns", "pids", self.link.server).stdout.split()
        return [int(p) for p in inside
                if b"slipwayd" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes()
                and b"session" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes()
                and b"sshd" not in pathlib.Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")[0]]

    def readers(self, fd, count, first=256):
        """Threads that each read one unit nobody has read yet; the list of what they got wrong."""
        wrong, done = [], []

        def read(i):
            at = (first + i * 2) * UNIT + 4096
            try:
                if os.pread(fd, 4096, at) != self.want[at:at + 4096]:
                    wrong.append(at)
            except OSError as e:
                wrong.append((at, e))
            done.append(i)

        threads = [threading.Thread(target=read, args=(i,)) for i in range(count)]
        for t in threads:
            t.start()
        return threads, wrong, done

    def test_a_blocked_data_port_leaves_a_working_mount_inside_ssh(self):
        self.link.tell("block 60100 60999")
        started = time.monotonic()
        m = self.mount()
        self.assertLess(time.monotonic() - started, 8)
        self.assertEqual((m.path / "disk").read_bytes(), self.want)
        link = m.status()["link"]
        self.assertIn("ssh", link["transport"])
        self.assertFalse(link["survives_ssh"])
        self.link.tell("unblock")
        m.wait_transport("tcp", timeout=60)

    def test_cut_while_200_reads_wait(self):
        """Hits through open handles go on while the link is cut, and the reads finish when it is
        back."""
        m = self.mount("readahead=off")
        m.wait_transport("tcp")
        with open(m.path / "disk", "rb", buffering=0) as f:
            self.assertEqual(os.pread(f.fileno(), UNIT, 0), self.want[:UNIT])
            self.link.tell("cut")
            threads, wrong, done = self.readers(f.fileno(), 200)
            wait_for(lambda: m.status()["reads"]["waiting"] >= 200, "200 waiting reads")
            self.assertEqual(done, [])
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            for _ in range(20):
                started = time.monotonic()
                self.assertEqual(os.pread(f.fileno(), UNIT, 0), self.want[:UNIT])
                self.assertLess(time.monotonic() - started, 1)
            wait_for(lambda: m.status()["link"]["state"] in ("slow", "disconnected"), "the state",
                     timeout=30)
            self.assertEqual(done, [])
            self.link.tell("restore")
            for t in threads:
                t.join(90)
            self.assertEqual(len(done), 200)
            self.assertEqual(wrong, [])

    def test_reads_survive_the_death_of_the_session_process(self):
        m = self.mount("readahead=off")
        m.wait_transport("tcp")
        with open(m.path / "disk", "rb", buffering=0) as f:
            self.assertEqual(os.pread(f.fileno(), UNIT, 0), self.want[:UNIT])
            pids = self.server_pids()
            self.assertGreaterEqual(len(pids), 1)
            for pid in pids:
                testbed.kill_pid(pid)
            at = 3 * 1024 * 1024
            self.assertEqual(os.pread(f.fileno(), UNIT, at), self.want[at:at + UNIT])
        link = m.status()["link"]
        self.assertGreaterEqual(link["sessions"], 2)

    def test_reads_survive_the_loss_of_ssh_alone(self):
        m = self.mount("readahead=off")
        m.wait_transport("tcp")
        ours = testbed.run("ip", "netns", "pids", self.link.server).stdout.split()
        children = [int(p) for p in ours if int(p) != self.sshd.process.pid
                    and b"sshd" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes()[:4]]
        self.assertGreaterEqual(len(children), 1)
        with open(m.path / "disk", "rb", buffering=0) as f:
            for pid in children:
                testbed.kill_pid(pid)
            wait_for(lambda: not any(c["number"] == 0 for c in m.status()["link"]["connections"]),
                     "the loss of connection 0")
            at = 5 * 1024 * 1024
            self.assertEqual(os.pread(f.fileno(), UNIT, at), self.want[at:at + UNIT])
        self.assertEqual(m.status()["link"]["sessions"], 1)

    def test_a_host_that_kills_the_sessions_processes_when_ssh_ends(self):
        """As systemd does with KillUserProcesses: reads wait and go on in a new session."""
        m = self.mount("readahead=off")
        m.wait_transport("tcp")
        with open(m.path / "disk", "rb", buffering=0) as f:
            ours = testbed.run("ip", "netns", "pids", self.link.server).stdout.split()
            for p in ours:
                if int(p) != self.sshd.process.pid:
                    testbed.kill_pid(int(p))
            self.assertEqual(self.server_pids(), [])
            at = 7 * 1024 * 1024
            self.assertEqual(os.pread(f.fileno(), UNIT, at), self.want[at:at + UNIT])
        self.assertGreaterEqual(m.status()["link"]["sessions"], 2)

    def test_a_squatter_on_the_data_address_costs_nothing(self):
        """Something that accepts and says nothing sits where the client dials first."""
        squatter = subprocess.Popen(
            [*self.link.in_client(), sys.executable, "-c",
             "import socket, sys\n"
             "held = []\n"
             "for p in range(60100, 61000):\n"
             "    s = socket.socket(); s.bind(('127.0.0.9', p)); s.listen(); held.append(s)\n"
             "print('ready', flush=True)\n"
             "sys.stdin.read()\n"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(testbed.stop, squatter)
        self.assertEqual(squatter.stdout.readline().strip(), "ready")
        m = self.mount("data_address=127.0.0.9")
        self.assertEqual((m.path / "disk").read_bytes(), self.want)
        m.wait_transport("tcp", timeout=60)

    def test_a_file_that_changed_while_the_session_was_gone_is_stale(self):
        m = self.mount("readahead=off", "attr_timeout=0")
        with open(m.path / "disk", "rb", buffering=0) as f:
            self.assertEqual(os.pread(f.fileno(), UNIT, 0), self.want[:UNIT])
            for pid in self.server_pids():
                testbed.kill_pid(pid)
            testbed.random_file(self.export / "disk", self.size)
            with self.assertRaises(OSError) as e:
                os.pread(f.fileno(), UNIT, 9 * 1024 * 1024)
            self.assertEqual(e.exception.errno, 116)
        self.assertEqual((m.path / "disk").read_bytes(), (self.export / "disk").read_bytes())


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
