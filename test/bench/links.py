"""Reads and names over the emulated link of 32 ms and 100 Mbit/s."""

import concurrent.futures
import os
import random
import statistics
import subprocess
import threading
import time

from bed import MIB, RTT, Bed, plain_tcp_seconds, read_all, report, timed
from testbed import SERVER_ADDRESS, run


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
                    if "logged in as" in line:
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
