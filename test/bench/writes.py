"""Writing: what a write and an fsync cost against libfuse's plain mirror, and how fast what was
written goes to the server."""

import os
import random
import statistics
import subprocess

import testbed
from bed import MIB, RTT, Bed, plain_tcp_seconds, report, timed
from rates import mirror_example
from testbed import Mount, TempTree, run, wait_for
from vmware_lock import Lock

SIZE = 64 * MIB


def write_all(path, chunks, sync):
    fd = os.open(path, os.O_WRONLY)
    for i, chunk in enumerate(chunks):
        os.pwrite(fd, chunk, i * len(chunk))
    if sync:
        os.fsync(fd)
    os.close(fd)


def random_writes(path, offsets, data):
    fd = os.open(path, os.O_WRONLY)
    for offset in offsets:
        os.pwrite(fd, data, offset)
    os.close(fd)


def synced_writes(path, offsets, data):
    fd = os.open(path, os.O_WRONLY)
    times = []
    for offset in offsets:
        os.pwrite(fd, data, offset)
        times.append(timed(lambda: os.fsync(fd))[0])
    os.close(fd)
    return statistics.median(times)


def write():
    with TempTree() as d:
        (d / "export").mkdir()
        (d / "mirrored").mkdir()
        (d / "mirror").mkdir()
        for directory in ("export", "mirrored"):
            testbed.random_file(d / directory / "disk", SIZE)
        example = mirror_example(d)
        if example is None:
            print("skip write: libfuse's examples are not installed")
            return
        chunks = [os.urandom(MIB) for _ in range(SIZE // MIB)]
        block = os.urandom(4096)
        choose = random.Random(3)
        offsets = [o * 4096 for o in choose.sample(range(SIZE // 4096), 8000)]
        ours, theirs = {}, {}
        m = Mount(f"local:{d}/export", d, [f"server_command={testbed.SLIPWAYD} session"])
        mirror = subprocess.Popen([example, "-f", "-o", f"source={d}/mirrored", d / "mirror"])
        try:
            wait_for(lambda: os.path.ismount(d / "mirror"), "the mirror")
            with m:
                for _ in range(5):
                    for times, path in ((theirs, d / "mirror/disk"), (ours, m.path / "disk")):
                        for name, work in (
                                ("return", lambda: write_all(path, chunks, False)),
                                ("fsync", lambda: write_all(path, chunks, True)),
                                ("random", lambda: random_writes(path, offsets, block))):
                            times.setdefault(name, []).append(timed(work)[0])
                            os.sync()
                            run(testbed.SLIPWAY, "flush", m.path)
                        times.setdefault("one", []).append(
                            synced_writes(path, offsets[:100], block))
                        run(testbed.SLIPWAY, "flush", m.path)
        finally:
            run("umount", d / "mirror", check=False)
            mirror.wait()

        def ratio(name):
            return statistics.median(o / t for o, t in zip(ours[name], theirs[name]))

        def milliseconds(name):
            return (f"{statistics.median(ours[name]) * 1000:.2f} ms against "
                    f"{statistics.median(theirs[name]) * 1000:.2f}")

        report("write 64 MiB, to its return, over libfuse's plain mirror", ratio("return"), "<",
               1.3, milliseconds("return"))
        report("the same with fsync", ratio("fsync"), "<", 1.3, milliseconds("fsync"))
        report("4 KiB random writes, of the mirror's rate", 1 / ratio("random"), ">", 0.7,
               f"8000 of them: {milliseconds('random')}")
        report("fsync after one 4 KiB write, over the mirror's", ratio("one"), "<", 1.3,
               milliseconds("one"))


def lock_and_unlock(path):
    lock = Lock(path, "vmware-vmx")
    lock.acquire()
    lock.release()


def locks():
    """VMware's lock protocol on a machine's file, under its group's lease."""
    with TempTree() as d:
        (d / "export").mkdir()
        (d / "mirrored").mkdir()
        (d / "mirror").mkdir()
        for directory in ("export", "mirrored"):
            (d / directory / "vm").mkdir()
            (d / directory / "vm/vm.vmx").touch()
        source, command = f"local:{d}/export", f"server_command={testbed.SLIPWAYD} session"
        example = mirror_example(d)
        mirror = example and subprocess.Popen([example, "-f", "-o", f"source={d}/mirrored",
                                               d / "mirror"])
        times = {}
        with Mount(source, d, [command]) as m:
            if mirror:
                wait_for(lambda: os.path.ismount(d / "mirror"), "the mirror")
            lock_and_unlock(m.path / "vm/vm.vmx")  # takes the lease
            for _ in range(50):
                for name, path in (("here", m.path), ("mirror", d / "mirror")):
                    if name == "here" or mirror:
                        times.setdefault(name, []).append(
                            timed(lambda p=path: lock_and_unlock(p / "vm/vm.vmx"))[0])
        with Mount(source, d, [command, "names=through"], name="through") as m:
            m.cache = d / "cache-through"
            for _ in range(20):
                times.setdefault("through", []).append(
                    timed(lambda: lock_and_unlock(m.path / "vm/vm.vmx"))[0])
        if mirror:
            run("umount", d / "mirror", check=False)
            mirror.wait()
        ms = {name: 1000 * statistics.median(of) for name, of in times.items()}
        report("VMware's lock and unlock on a local server, ms", ms["here"], "<", 2,
               f"{ms.get('mirror', 0):.2f} on libfuse's mirror, {ms['through']:.2f} with names=through")
    with Bed() as bed:
        (bed.export / "vm").mkdir()
        (bed.export / "vm/vm.vmx").touch()
        with bed.mount() as m:
            lock_and_unlock(m.path / "vm/vm.vmx")
            times = [timed(lambda: lock_and_unlock(m.path / "vm/vm.vmx"))[0] for _ in range(9)]
        report("the same over the link, in round trips", statistics.median(times) / RTT, "<", 21,
               f"{1000 * statistics.median(times):.0f} ms; 20 operations")


def drained(bed, m, data):
    """Seconds until what is written is on the server."""
    path = m.path / "written"
    with open(path, "wb", buffering=0) as f:
        os.fsync(f.fileno())
        run(testbed.SLIPWAY, "flush", m.path)
        for offset in range(0, len(data), MIB):
            f.write(data[offset:offset + MIB])
        seconds, _ = timed(lambda: run(testbed.SLIPWAY, "flush", m.path))
    return seconds


def drain():
    with Bed() as bed:
        plain_file = bed.add_random("plain", SIZE)
        data = plain_file.read_bytes()
        plain = plain_tcp_seconds(bed.link, plain_file)
        with bed.mount() as m:
            m.wait_transport("tcp")
            seconds = drained(bed, m, data)
        report("64 MiB incompressible to the server, of plain TCP's goodput", plain / seconds, ">",
               0.9, f"{seconds:.2f} s, plain TCP {plain:.2f} s")


def drain_memory(vms):
    """Guest memory, whose pages compress and are often zero."""
    memory = vms.get().memory.read_bytes()[:128 * MIB]
    with Bed() as bed:
        plain_file = bed.add_random("plain", 32 * MIB)
        plain = plain_tcp_seconds(bed.link, plain_file) * len(memory) / (32 * MIB)
        with bed.mount() as m:
            m.wait_transport("tcp")
            seconds = drained(bed, m, memory)
        report("128 MiB of guest memory to the server, of plain TCP's goodput", plain / seconds,
               ">", 3, f"{seconds:.2f} s, plain TCP would take {plain:.2f} s")
