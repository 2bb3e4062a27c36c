"""The cold start of a machine from its disk, with what other starts have taught and without."""

import contextlib
import os
import random
import shutil

import vmset
from bed import MIB, Bed, note, report
from guests import start_detail
from testbed import wait_for


class ProfileBox:
    """The profiles of an export, to be put aside and brought back."""

    def __init__(self, bed):
        self.directory = bed.export / ".slipway/profiles"
        self.bed = bed

    def names(self):
        return sorted(os.listdir(self.directory))

    def move_to(self, name):
        aside = self.bed.dir / name
        aside.mkdir()
        for n in self.names():
            shutil.move(self.directory / n, aside / n)
        return aside

    def bring(self, aside):
        for n in self.names():
            os.unlink(self.directory / n)
        for n in os.listdir(aside):
            shutil.copy2(aside / n, self.directory / n)


def boot_from(bed, vm, name, *options):
    """A cold boot of the disk on a mount with an empty cache: seconds, and the status after it."""
    with bed.mount(*options, cache=name) as m:
        m.wait_transport("tcp")
        guest, seconds = vm.boot(m.path / "disk.img")
        with contextlib.closing(guest):
            status = m.status()
    shutil.rmtree(m.cache)
    return seconds, status


def learn_wrongly(bed, box):
    """A profile of the disk that no boot left: 2,000 units anywhere in its content."""
    content = nonzero_units(bed.export / "disk.img")
    with bed.mount(cache="wrong") as m:
        with open(m.path / "disk.img", "rb", buffering=0) as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            for unit in random.Random(3).sample(content, 2000):
                os.pread(f.fileno(), 4096, unit * 16384)
    wait_for(box.names, "the wrong profile")
    return box.move_to("profiles-wrong")


def nonzero_units(path):
    units, end = [], 0
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        while end < size:
            try:
                begin = os.lseek(f.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(f.fileno(), begin, os.SEEK_HOLE)
            units += range(begin // 16384, end // 16384)
    return units


def working_set(vms, rounds=3):
    vm = vms.get()
    with Bed() as bed:
        vm.link_into(bed.export)
        bed.publish()
        box = ProfileBox(bed)
        boot_from(bed, vm, "learn")
        wait_for(box.names, "the profile")
        right = box.move_to("profiles-right")
        wrong = learn_wrongly(bed, box)
        seen = {"local": [], "without": [], "with": [], "wrong": []}
        for i in range(rounds):
            guest, seconds = vm.boot(vm.disk)
            guest.close()
            seen["local"].append((seconds, None))
            seen["without"].append(boot_from(bed, vm, f"without{i}", "profile=off"))
            box.bring(right)
            seen["with"].append(boot_from(bed, vm, f"with{i}", "profile=use"))
            box.bring(wrong)
            seen["wrong"].append(boot_from(bed, vm, f"wrong{i}", "profile=use"))
        best = {kind: min(runs, key=lambda r: r[0]) for kind, runs in seen.items()}
        local = best["local"][0]
        assert best["wrong"][1]["prefetch"]["profiles_received"] == 1
        for kind, runs in seen.items():
            note(f"boot, {kind}: " + " ".join(f"{seconds:.2f}" for seconds, _ in runs) + " s"
                 + (f"; {start_detail(best[kind][1])}" if best[kind][1] else ""))
        report("cold boot with the learned working set, time over local, of that without",
               (best["with"][0] - local) / (best["without"][0] - local), "<", 1 / 3,
               f"{best['with'][0]:.2f} s and {best['without'][0]:.2f} s, locally {local:.2f} s")
        received = best["with"][1]["link"]["bytes_received"]
        report("bytes received for it, of the full copy", received / (vmset.DISK_MB * MIB), "<",
               0.05, f"{received / MIB:.1f} MiB")
        report("cold boot with a wrong working set, over that without",
               best["wrong"][0] / best["without"][0], "<", 1.05,
               f"{best['wrong'][0]:.2f} s and {best['without'][0]:.2f} s")
