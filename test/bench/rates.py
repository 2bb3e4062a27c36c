"""Rates without a slow link, against other file systems on this machine."""

import os
import pathlib
import random
import shutil
import statistics
import subprocess

import testbed
from bed import MIB, read_all, report, timed
from testbed import Mount, Sshd, TempTree, drop_caches, run, wait_for


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
            wait_for(lambda: m.status()["cache"]["stored_bytes"] >= size, "the cache to be full",
                     timeout=120)
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
