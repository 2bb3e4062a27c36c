#!/usr/bin/env python3
"""Prints ratios, each of two things measured side by side in this run.

    bench.py [NAME ...]       all, or those whose names are given: sequential random names warm
                              loopback ready memory

Over an emulated link of 32 ms and 100 Mbit/s unless a line says otherwise. Absolute times of a
shared machine mean little; the ratios are what counts. Exit status 1 when a target is missed.
"""

import argparse
import concurrent.futures
import os
import pathlib
import random
import select
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import testbed
from testbed import (CLIENT_ADDRESS, SERVER_ADDRESS, Link, Mount, Sshd, TempTree, drop_caches, run,
                     wait_for)

RTT = 0.032
MIB = 1 << 20
results = []


def report(name, ratio, sense, target, detail):
    """One line; `sense` is "<" or ">"."""
    met = ratio < target if sense == "<" else ratio > target
    results.append(met)
    print(f"{'ok  ' if met else 'MISS'} {name}: {ratio:.2f} (target {sense} {target}) -- {detail}",
          flush=True)


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
path, port = sys.argv[1], int(sys.argv[2])
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", port)); s.listen(); print("ready", flush=True)
c, _ = s.accept()
with open(path, "rb") as f:
    c.sendfile(f)
c.close()
"""


def plain_tcp_seconds(link, path, port=50001):
    """Time to receive the file over one plain TCP connection on the same link."""
    server = subprocess.Popen([*link.in_server(), sys.executable, "-c", SENDER, str(path),
                               str(port)], stdout=subprocess.PIPE, text=True)
    server.stdout.readline()
    receive = ("import socket, sys, time\n"
               f"t = time.monotonic(); s = socket.create_connection(('{SERVER_ADDRESS}', {port}))\n"
               "n = 0\n"
               "while d := s.recv(1 << 20): n += len(d)\n"
               "print(time.monotonic() - t)\n")
    seconds = float(run(*link.in_client(), sys.executable, "-c", receive, timeout=600).stdout)
    server.wait()
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

    def mount(self, *options, **kwargs):
        return Mount(f"server:{self.export}", self.dir, [*self.sshd.options(), *options],
                     link=self.link, **kwargs)

    def add_random(self, name, size):
        testbed.random_file(self.export / name, size)
        os.utime(self.export / name, (1000, 1000))
        return self.export / name


def sequential():
    with Bed() as bed:
        path = bed.add_random("disk", 64 * MIB)
        plain = plain_tcp_seconds(bed.link, path)
        with bed.mount() as m:
            m.wait_transport("tcp")
            seconds, got = timed(lambda: read_all(m.path / "disk"))
            assert got == 64 * MIB
        report("cold sequential read, of plain TCP's goodput", plain / seconds, ">", 0.9,
               f"64 MiB incompressible: {seconds:.2f} s, plain TCP {plain:.2f} s")


def random_reads():
    with Bed() as bed:
        size = 256 * MIB
        bed.add_random("disk", size)
        with bed.mount("readahead=off") as m:
            m.wait_transport("tcp")
            choose = random.Random(1)
            units = choose.sample(range(size // 16384), 600)
            fd = os.open(m.path / "disk", os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

            def read(unit):
                return timed(lambda: os.pread(fd, 4096, unit * 16384 + 4096))[0]

            read(units.pop())
            ping = run(*bed.link.in_client(), "ping", "-c", "5", "-i", "0.2", "-q",
                       SERVER_ADDRESS).stdout
            rtt = float(ping.rsplit("=", 1)[1].split("/")[1]) / 1000
            single = [read(units.pop()) for _ in range(60)]
            one_rate = 1 / statistics.mean(single)
            report("one cold 4 KiB random read, in round trips", statistics.median(single) / rtt,
                   "<", 1.1, f"median {statistics.median(single) * 1000:.1f} ms, "
                   f"ping {rtt * 1000:.1f} ms")
            batch = [units.pop() for _ in range(480)]
            with concurrent.futures.ThreadPoolExecutor(32) as pool:
                seconds, _ = timed(lambda: list(pool.map(read, batch)))
            report("32 cold 4 KiB random reads in flight, over the rate of one",
                   len(batch) / seconds / one_rate, ">", 20,
                   f"{len(batch) / seconds:.0f}/s against {one_rate:.0f}/s")
            os.close(fd)


def names():
    with Bed() as bed:
        directory = bed.export / "many"
        directory.mkdir()
        for i in range(1000):
            (directory / f"file-{i:04}").write_text("x")
        with bed.mount() as m:
            m.wait_transport("tcp")
            os.listdir(m.path)
            seconds, _ = timed(lambda: run("ls", "-l", m.path / "many"))
            local, _ = timed(lambda: run("ls", "-l", directory))
            report("ls -l of 1,000 files, in round trips", (seconds - local) / RTT, "<", 5,
                   f"{seconds * 1000:.0f} ms, locally {local * 1000:.0f} ms")


def mirror_example(directory):
    """libfuse's plain mirror example, built from the copy that its development package ships."""
    source = pathlib.Path("/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c")
    if not source.exists():
        return None
    flags = run("pkg-config", "--cflags", "--libs", "fuse3").stdout.split()
    binary = directory / "passthrough_ll"
    run("gcc", "-O2", "-w", source, "-o", binary, *flags)
    return binary


def warm():
    with TempTree() as d:
        (d / "export").mkdir()
        (d / "mirror").mkdir()
        size = 512 * MIB
        testbed.random_file(d / "export/disk", size)
        os.utime(d / "export/disk", (1000, 1000))
        example = mirror_example(d)
        if example is None:
            print("skip warm: libfuse's examples are not installed")
            return
        options = [f"server_command={testbed.SLIPWAYD} session"]
        m = Mount(f"local:{d}/export", d, options)
        with m:
            read_all(m.path / "disk")
            wait_for(lambda: m.status()["cache"]["stored_bytes"] >= size, "the cache to be full", timeout=120)
        mirror = subprocess.Popen([example, "-f", "-o", f"source={d}/export", d / "mirror"])
        try:
            wait_for(lambda: os.path.ismount(d / "mirror"), "the mirror")
            with m:
                ours, theirs, ours_random, theirs_random = [], [], [], []
                offsets = random.Random(2).sample(range(size // 4096), 4000)

                def random_rate(path):
                    fd = os.open(path, os.O_RDONLY)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
                    seconds, _ = timed(lambda: [os.pread(fd, 4096, o * 4096) for o in offsets])
                    os.close(fd)
                    return seconds

                for _ in range(5):
                    drop_caches()
                    theirs.append(timed(lambda: read_all(d / "mirror/disk"))[0])
                    drop_caches()
                    ours.append(timed(lambda: read_all(m.path / "disk"))[0])
                    drop_caches()
                    theirs_random.append(random_rate(d / "mirror/disk"))
                    drop_caches()
                    ours_random.append(random_rate(m.path / "disk"))
                received = m.status()["link"]["bytes_received"]
        finally:
            run("umount", d / "mirror", check=False)
            mirror.wait()
        pairs = [t / o for t, o in zip(theirs, ours)]
        report("reads after remount, page cache dropped, of libfuse's plain mirror",
               statistics.median(pairs), ">", 0.9,
               f"{size / MIB / statistics.median(ours):.0f} MiB/s against "
               f"{size / MIB / statistics.median(theirs):.0f}; {received} bytes from the server")
        pairs = [t / o for t, o in zip(theirs_random, ours_random)]
        report("the same, 4 KiB random", statistics.median(pairs), ">", 0.9,
               f"{len(offsets) / statistics.median(ours_random):.0f}/s against "
               f"{len(offsets) / statistics.median(theirs_random):.0f}/s")


def loopback():
    if shutil.which("sshfs") is None:
        print("skip loopback: sshfs is not installed")
        return
    with TempTree() as d:
        (d / "export").mkdir()
        (d / "sshfs").mkdir()
        size = 512 * MIB
        testbed.random_file(d / "export/disk", size)
        with Sshd(d, extra_config="Subsystem sftp internal-sftp") as sshd:
            ratios, ours, theirs = [], 0, 0
            for i in range(3):
                run("sshfs", "-F", sshd.config, "-o", "max_conns=4", f"server:{d}/export",
                    d / "sshfs")
                theirs, _ = timed(lambda: read_all(d / "sshfs/disk"))
                run("umount", d / "sshfs")
                m = Mount(f"server:{d}/export", d, sshd.options())
                m.cache = d / f"cache{i}"
                with m:
                    m.wait_transport("tcp")
                    ours, _ = timed(lambda: read_all(m.path / "disk"))
                shutil.rmtree(m.cache)
                ratios.append(theirs / ours)
        report("loopback, cold sequential, over sshfs", statistics.median(ratios), ">", 1.0,
               f"last: {size / MIB / ours:.0f} MiB/s against {size / MIB / theirs:.0f}")


def ready():
    """Round trips from SSH's authentication to the mount: the slope of time over round-trip time of
    a whole mount, less that of the same libssh connection up to its authentication."""
    times = {}
    for rtt in (20, 120):
        with Bed(rtt_ms=rtt, rate_mbit=1000) as bed:
            samples = []
            for i in range(3):
                m = bed.mount("-v")
                m.options.pop()
                m.cache = bed.dir / f"cache{i}"
                m.path.mkdir(exist_ok=True)
                child = subprocess.Popen([*m.command(), "-f", "-v"], stderr=subprocess.PIPE,
                                         text=True)
                authenticated = mounted = None
                for line in child.stderr:
                    if "authenticated" in line:
                        authenticated = time.monotonic()
                    if ": mounted " in line:
                        mounted = time.monotonic()
                        break
                reader = threading.Thread(target=child.stderr.read)
                reader.start()
                m.umount()
                child.wait()
                reader.join()
                samples.append(mounted - authenticated)
            times[rtt] = min(samples)
    report("mount ready after SSH has authenticated, in round trips",
           (times[120] - times[20]) / 0.100, "<", 6,
           f"{times[20] * 1000:.0f} ms at 20 ms, {times[120] * 1000:.0f} ms at 120 ms")


def guest_memory(path):
    """320 MB of a real guest's memory: a Debian kernel with a busybox user space that has read its
    disk, suspended in QEMU."""
    kernels = sorted(pathlib.Path("/boot").glob("vmlinuz-*"))
    if not kernels or shutil.which("qemu-system-x86_64") is None:
        return False
    work = path.parent / "guest"
    root = work / "root"
    for d in ("bin", "dev", "proc", "sys", "tmp"):
        (root / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    os.symlink("busybox", root / "bin/sh")
    # Programs and data such as a guest has in its page cache: libraries of this machine.
    libraries = sorted(pathlib.Path("/usr/lib").rglob("*.so*"), key=lambda p: p.name)
    total = 0
    (root / "lib").mkdir()
    for lib in libraries:
        if lib.is_symlink() or not lib.is_file() or total > 50 * MIB:
            continue
        total += lib.stat().st_size
        shutil.copy(lib, root / "lib" / lib.name)
    (root / "init").write_text("#!/bin/sh\nbusybox mount -t proc proc /proc\n"
                               "busybox echo GUEST-UP\nwhile :; do busybox sleep 1; done\n")
    (root / "init").chmod(0o755)
    initramfs = work / "initramfs"
    with open(initramfs, "wb") as out:
        find = subprocess.run(["find", "."], cwd=root, stdout=subprocess.PIPE, check=True)
        subprocess.run(["/bin/busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=find.stdout,
                       stdout=out, stderr=subprocess.DEVNULL, check=True)
    qemu = subprocess.Popen(
        ["qemu-system-x86_64", "-machine", "q35,memory-backend=m", "-accel", "tcg", "-m", "320M",
         "-object", f"memory-backend-file,id=m,size=320M,mem-path={path},share=on",
         "-kernel", str(kernels[-1]), "-initrd", str(initramfs), "-append",
         "console=ttyS0 quiet", "-display", "none", "-serial", "stdio", "-net", "none"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    started = time.monotonic()
    seen = b""
    while b"GUEST-UP" not in seen and time.monotonic() - started < 240:
        if not select.select([qemu.stdout], [], [], 1)[0]:
            continue
        data = os.read(qemu.stdout.fileno(), 4096)
        if not data:
            break
        seen += data
    testbed.stop(qemu)
    shutil.rmtree(work)
    os.utime(path, (1000, 1000))
    return b"GUEST-UP" in seen


def memory():
    with Bed() as bed:
        path = bed.export / "vm.vmem"
        if not guest_memory(path):
            print("skip memory: needs a kernel in /boot and qemu-system-x86_64")
            return
        scp = ["scp", "-O", "-C", "-q", "-F", bed.sshd.config, f"server:{path}", bed.dir / "copy"]
        theirs, _ = timed(lambda: run(*bed.link.in_client(), *scp, timeout=600))
        with bed.mount() as m:
            m.wait_transport("tcp")
            ours, got = timed(lambda: read_all(m.path / "vm.vmem"))
            assert got == path.stat().st_size
            received = m.status()["link"]["bytes_received"]
        report("320 MB of guest memory, times faster than scp -C", theirs / ours, ">", 1.5,
               f"{ours:.1f} s and {received / MIB:.1f} MiB received, scp -C {theirs:.1f} s")


BENCHES = {"sequential": sequential, "random": random_reads, "names": names, "warm": warm,
           "loopback": loopback, "ready": ready, "memory": memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], metavar="NAME",
                        help=" ".join(BENCHES))
    chosen = parser.parse_args().names or list(BENCHES)
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        return testbed.SKIP
    for name in chosen:
        BENCHES[name]()
    print(f"{sum(results)} of {len(results)} targets met")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
