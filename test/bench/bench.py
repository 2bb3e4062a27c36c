#!/usr/bin/env python3
"""Prints ratios, each of two things measured side by side in this run.

Over an emulated link of 32 ms and 100 Mbit/s unless a line says otherwise. Absolute times of a
shared machine mean little; the ratios are what counts. Exit status 1 when a target is missed.
"""

import argparse
import sys

import bed  # first: it makes the modules of test/support known
import guests
import links
import manifests
import rates
import starts
import testbed
import vmset
import writes

BENCHES = {"sequential": links.sequential, "random": links.random_reads, "names": links.names,
           "warm": rates.warm, "loopback": rates.loopback, "ready": links.ready,
           "versions": manifests.versions, "write": writes.write, "locks": writes.locks,
           "drain": writes.drain}
# These move a virtual machine, which takes a minute to make.
VM_BENCHES = {"memory": guests.memory, "bulk": guests.bulk, "resume": guests.resume,
              "workingset": starts.working_set, "publish": manifests.publish,
              "drainmemory": writes.drain_memory}


def main():
    names = [*BENCHES, *VM_BENCHES]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME",
                        help=" ".join(names))
    parser.add_argument("--vms", metavar="DIR",
                        help="keep the virtual machine there, for the next run")
    options = parser.parse_args()
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        return testbed.SKIP
    vms = vmset.VmSets(options.vms)
    try:
        for name in options.names or names:
            if name in BENCHES:
                BENCHES[name]()
            elif lack := vmset.missing():
                print(f"skip {name}: {lack}")
            else:
                VM_BENCHES[name](vms)
    finally:
        vms.close()
    print(f"{sum(bed.results)} of {len(bed.results)} targets met")
    return 0 if all(bed.results) else 1


if __name__ == "__main__":
    sys.exit(main())
