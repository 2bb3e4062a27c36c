"""A virtual machine over the link: its memory in bulk, its resumption.

The set of files is vmset's, in an export of each benchmark's own."""

import fcntl
import hashlib
import json
import os
import statistics
import struct
import time

import vmset
from bed import MIB, Bed, plain_tcp_seconds, read_all, report, timed
from qemu import Qemu
from testbed import SLIPWAYD, run

LINKS = ("32 ms, 100 Mbit/s", {}), ("20 ms, 1 Gbit/s", {"rtt_ms": 20, "rate_mbit": 1000,
                                                        "queue_kb": 8000})
PREFETCH_IOCTL = 2 << 30 | 32 << 16 | ord("S") << 8 | 0x71  # client/fs/prefetch_ioctl.h


def memory(vms):
    vm = vms.get()
    with Bed() as bed:
        vm.link_into(bed.export)
        path = bed.export / "vm.vmem"
        scp = ["scp", "-O", "-C", "-q", "-F", bed.sshd.config, f"server:{path}", bed.dir / "copy"]
        theirs, _ = timed(lambda: run(*bed.link.in_client(), *scp, timeout=600))
        with bed.mount() as m:
            m.wait_transport("tcp")
            ours, got = timed(lambda: read_all(m.path / "vm.vmem"))
            assert got == path.stat().st_size
            received = m.status()["link"]["bytes_received"]
        report("320 MB of guest memory, not published, times faster than scp -C", theirs / ours,
               ">", 1.5,
               f"{ours:.1f} s and {received / MIB:.1f} MiB received, scp -C {theirs:.1f} s")


def manifest(path):
    return json.loads(run(SLIPWAYD, "manifest", "show", "--json", path).stdout)


def digest(path):
    """Of a path or of an open file, which it leaves open."""
    with open(path, "rb", closefd=not isinstance(path, int)) as f:
        return hashlib.file_digest(f, "blake2b").hexdigest()


def wait_whole(fd, timeout=300):
    """Waits until all of an open file of a mount is in the cache."""
    deadline = time.monotonic() + timeout
    while True:
        total, done, failed, state = struct.unpack("QQQII", fcntl.ioctl(fd, PREFETCH_IOCTL,
                                                                        bytes(32)))[:4]
        if state == 1 and failed == 0:
            return total
        if state == 2 or failed or time.monotonic() > deadline:
            raise RuntimeError(f"{done} of {total} bytes came, {failed} failed, state {state}")
        time.sleep(0.01)


def bulk_once(bed, name, expected):
    """Seconds from the open of the memory file until it is cached, bytes received for it, and what
    the status says then. Its content is right, read with the link cut."""
    with bed.mount(cache=name) as m:
        m.wait_transport("tcp")
        before = m.status()["link"]["bytes_received"]

        def bring():
            fd = os.open(m.path / "vm.vmem", os.O_RDONLY)
            wait_whole(fd)
            return fd

        seconds, fd = timed(bring)
        status = m.status()
        bed.link.tell("cut")
        try:
            same = digest(fd) if expected else None
        finally:
            bed.link.tell("restore")
            os.close(fd)
        assert same == expected, "the content that came is another"
    return seconds, status["link"]["bytes_received"] - before, status


def bulk(vms):
    vm = vms.get()
    for label, link in LINKS:
        with Bed(**link) as bed:
            vm.link_into(bed.export)
            bed.publish()
            facts = manifest(bed.export / "vm.vmem")
            expected = digest(vm.memory)
            runs = [bulk_once(bed, f"{i}", expected if i == 0 else None) for i in range(3)]
            seconds, received, status = sorted(runs, key=lambda r: r[0])[1]
            plain = statistics.median(plain_tcp_seconds(bed.link, vm.memory, 50001 + i, received)
                                      for i in range(3))
            detail = (f"{seconds:.2f} s for {received / MIB:.1f} MiB received, frames "
                      f"{facts['frame_bytes'] / MIB:.1f} MiB, plain TCP {plain:.2f} s; all: "
                      + " ".join(f"{r[0]:.2f}" for r in runs))
            if link:
                report(f"bulk transfer of 320 MB of memory at {label}, seconds", seconds, "<", 1.0,
                       detail)
            else:
                report(f"bulk transfer of 320 MB of memory at {label}, over its bytes at the "
                       "link's goodput", seconds / plain, "<", 1.15, detail)
            asked = status["reads"]["demand_bytes"] + status["reads"]["prefetch_bytes"]
            report("units of zeros asked for",
                   (asked - facts["size"] + facts["zero_bytes"]) / 16384, "<", 1,
                   f"{asked / MIB:.1f} MiB asked for")


def served(q):
    """Logs in on the console of a guest that was resumed; seconds since its QEMU was started."""
    start = q.say(vmset.LOGIN)
    q.wait_console(vmset.SERVED, start=start)
    return time.monotonic() - q.started


def resume_from(vm, directory):
    """The guest resumed from files of a directory: seconds to its first instruction, and to a
    served login."""
    with Qemu(vm.guest(directory / "disk.img"), directory / "vm.vmem", directory / "vm.state") as q:
        return q.running - q.started, served(q)


def resume(vms):
    vm = vms.get()
    full = vmset.MEMORY_MB * MIB + vmset.DISK_MB * MIB
    for label, link in LINKS:
        with Bed(**link) as bed:
            vm.link_into(bed.export)
            bed.publish()
            resume_from(vm, vm.directory)  # the local files are in the page cache now
            local = [resume_from(vm, vm.directory) for _ in range(3)]
            local_login = statistics.median(login for _, login in local)
            local_running = statistics.median(running for running, _ in local)
            for start in ("nothing learned", "learned", "learned twice"):
                with bed.mount("writable_opens", cache=start.replace(" ", "-")) as m:
                    running, login = resume_from(vm, m.path)
                    status = m.status()
                detail = start_detail(status)
                report(f"resume at {label}, {start}: first instruction, seconds after the mount",
                       running, "<", 1.0, f"locally {local_running:.2f} s")
                if link:
                    report(f"resume at {label}, {start}: served login, seconds more than locally",
                           login - local_login, "<", 1.5,
                           f"{login:.2f} s, locally {local_login:.2f} s; {detail}")
                else:
                    report(f"resume at {label}, {start}: served login, over 1.3 times local + 3 s",
                           login / (1.3 * local_login + 3), "<", 1.0,
                           f"{login:.2f} s, locally {local_login:.2f} s; {detail}")
            report(f"resume at {label}, learned: bytes received, of the full copy",
                   status["link"]["bytes_received"] / full, "<", 0.05,
                   f"{status['link']['bytes_received'] / MIB:.1f} MiB")


def start_detail(status):
    p = status["prefetch"]
    return (f"{status['link']['bytes_received'] / MIB:.1f} MiB received, "
            f"{status['reads']['misses']} misses, {p['profiles_received']} profiles, "
            f"precision {p['precision']:.2f}, recall {p['recall']:.2f}, "
            f"{p['wasted_bytes'] / MIB:.1f} MiB in vain")
