"""What benchmarks are made of: where they run, how they time, how they tell."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import testbed
from testbed import SERVER_ADDRESS, SLIPWAYD, Link, Mount, Sshd, TempTree, run

RTT = 0.032
MIB = 1 << 20
results = []


def report(name, ratio, sense, target, detail):
    """One line; `sense` is "<" or ">"."""
    met = ratio < target if sense == "<" else ratio > target
    results.append(met)
    digits = 2 if abs(target) >= 0.1 else 3
    print(f"{'ok  ' if met else 'MISS'} {name}: {ratio:.{digits}f} (target {sense} {target:.3g})"
          f" -- {detail}", flush=True)


def note(text):
    """A line without a target."""
    print(f"     {text}", flush=True)


def timed(action):
    started = time.monotonic()
    value = action()
    return time.monotonic() - started, value


def read_all(path, chunk=MIB):
    total = 0
    with open(path, "rb", buffering=0) as f:
        while data := f.read(chunk):
            total += len(data)
    return total


SENDER = """
import socket, sys
path, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", port)); s.listen(); print("ready", flush=True)
c, _ = s.accept()
with open(path, "rb") as f:
    c.sendfile(f, 0, size)
c.close()
"""


def plain_tcp_seconds(link, path, port=50001, size=None):
    """Time to receive the file, or its first bytes, over one plain TCP connection on the same
    link."""
    size = size or os.path.getsize(path)
    server = subprocess.Popen([*link.in_server(), sys.executable, "-c", SENDER, str(path),
                               str(port), str(size)], stdout=subprocess.PIPE, text=True)
    server.stdout.readline()
    receive = ("import socket, sys, time\n"
               f"t = time.monotonic(); s = socket.create_connection(('{SERVER_ADDRESS}', {port}))\n"
               "n = 0\n"
               "while d := s.recv(1 << 20): n += len(d)\n"
               "print(time.monotonic() - t)\n")
    seconds = float(run(*link.in_client(), sys.executable, "-c", receive, timeout=600).stdout)
    server.wait()
    server.stdout.close()
    return seconds


class Bed:
    """A link, an sshd behind it, an export."""

    def __init__(self, **link):
        self.link_options = link

    def __enter__(self):
        self.tree = TempTree()
        self.dir = self.tree.__enter__()
        self.export = self.dir / "export"
        self.export.mkdir()
        self.link = Link(**self.link_options)
        self.link.__enter__()
        self.sshd = Sshd(self.dir, link=self.link)
        self.sshd.__enter__()
        return self

    def __exit__(self, *exc):
        self.sshd.__exit__()
        self.link.__exit__()
        self.tree.__exit__()

    def mount(self, *options, cache=None, **kwargs):
        """`cache`: its name, for a mount that shares none with others."""
        m = Mount(f"server:{self.export}", self.dir, [*self.sshd.options(), *options],
                  link=self.link, **kwargs)
        if cache:
            m.cache = self.dir / f"cache-{cache}"
        return m

    def add_random(self, name, size):
        testbed.random_file(self.export / name, size)
        os.utime(self.export / name, (1000, 1000))
        return self.export / name

    def publish(self, *arguments):
        """Publishes the whole export, made anew when it has no identity yet; seconds. Waits before
        and after it, because nothing is believed of a file that changed less than 2 s ago, be it
        only by a new link."""
        if not (self.export / ".slipway").exists():
            run(SLIPWAYD, "init", self.export)
        time.sleep(2.5)
        seconds = timed(lambda: run(SLIPWAYD, "publish", *arguments, self.export, timeout=600))[0]
        time.sleep(2.5)
        return seconds
