"""Publishing images, and what their content hashes save."""

import ctypes
import ctypes.util
import os
import random
import shutil
import time

from bed import MIB, Bed, note, read_all, report
from testbed import SLIPWAY, run

UNIT = 16384


def blake2b_seconds(paths):
    """One core's time to hash all units of the files that are not zero, by libsodium (whose speed
    bounds ours), and their bytes."""
    sodium = ctypes.CDLL(ctypes.util.find_library("sodium"))
    sodium.sodium_init()
    digest = ctypes.create_string_buffer(32)
    zero = bytes(UNIT)
    seconds, total = 0.0, 0
    for path in paths:
        with open(path, "rb", buffering=0) as f:
            while data := f.read(4 * MIB):
                units = [u for i in range(0, len(data), UNIT) if (u := data[i:i + UNIT]) != zero]
                started = time.perf_counter()
                for unit in units:
                    sodium.crypto_generichash_blake2b(digest, ctypes.c_size_t(32), unit,
                                                      ctypes.c_ulonglong(len(unit)), None,
                                                      ctypes.c_size_t(0))
                seconds += time.perf_counter() - started
                total += sum(map(len, units))
    return seconds, total


def publish(vms):
    vm = vms.get()
    with Bed() as bed:
        vm.link_into(bed.export)
        images = [bed.export / "disk.img", bed.export / "vm.vmem"]
        for image in images:
            read_all(image)  # fills the page cache
        for label, arguments in (
                ("one thread, hashes only", ("-j", "1", "--frames=none")),
                ("as it is by default", ())):
            hashing, publishing, processor = [], [], []
            for _ in range(3):
                shutil.rmtree(bed.export / ".slipway", ignore_errors=True)
                seconds, total = blake2b_seconds(images)
                hashing.append(seconds)
                before = os.times()
                publishing.append(bed.publish(*arguments))
                after = os.times()
                processor.append(after.children_user + after.children_system
                                 - before.children_user - before.children_system)
            ratio = min(hashing) / min(publishing)
            detail = (f"{total / MIB:.0f} MiB not zero in {min(publishing):.2f} s, "
                      f"{min(processor):.2f} s of processors; BLAKE2b {min(hashing):.2f} s")
            if arguments:
                note(f"publish, {label}: {ratio:.2f} of one core's BLAKE2b rate -- {detail}")
            else:
                report("publish, rate of one core's BLAKE2b", ratio, ">", 0.7, detail)


def versions():
    size = 256 * MIB
    with Bed(rtt_ms=20, rate_mbit=1000) as bed:
        first = bed.add_random("image-1", size)
        second = bed.export / "image-2"
        shutil.copy(first, second)
        changed = random.Random(5).sample(range(size // UNIT), size // UNIT // 20)
        with open(second, "r+b") as f:
            for unit in changed:
                f.seek(unit * UNIT)
                f.write(os.urandom(UNIT))
        os.utime(second, (1000, 1000))
        bed.publish()
        with bed.mount() as m:
            m.wait_transport("tcp")
            if not knows_have_set(m.status()):
                print("skip versions: this client copies nothing within its cache")
                return
            run(SLIPWAY, "prefetch", m.path / "image-1", timeout=300)
            before = m.status()["link"]["bytes_received"]
            run(SLIPWAY, "prefetch", m.path / "image-2", timeout=300)
            received = m.status()["link"]["bytes_received"] - before
            assert run("cmp", m.path / "image-2", second, check=False).returncode == 0
            report("a next version with 5 % changed units: bytes received, of its bytes",
                   received / size, "<", 0.07, f"{received / MIB:.1f} of {size / MIB:.0f} MiB")
            with open(second, "r+b") as f:
                for unit in random.Random(6).sample(range(size // UNIT), size // UNIT // 20):
                    os.pwrite(f.fileno(), os.urandom(UNIT), unit * UNIT)
            os.utime(second, (2000, 2000))
            time.sleep(2.2)  # publish and the cache believe nothing that is younger
            bed.publish()
            before = m.status()["link"]["bytes_received"]
            run(SLIPWAY, "prefetch", m.path / "image-2", timeout=300)
            received = m.status()["link"]["bytes_received"] - before
            assert run("cmp", m.path / "image-2", second, check=False).returncode == 0
            report("5 % changed in place: bytes received, of its bytes",
                   received / size, "<", 0.07, f"{received / MIB:.1f} of {size / MIB:.0f} MiB")
