"""The virtual machine that the benchmarks move: a Debian of 1.6 GB whose files are this machine's
packages, and the same suspended with 320 MB of memory. Made once per run, or once per directory
that is kept (bench.py --vms DIR)."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import qemu
import testbed

RECIPE = 1  # part of the directory's name: a set made in another way is not this one
DISK_MB = 1600
CONTENT_MB = 640
MEMORY_MB = 320

# The programs of the start and of the login; the packages that they depend on come with them.
NEEDED = ("bash", "coreutils", "findutils", "gawk", "grep", "hostname", "libc-bin", "mount",
          "openssl", "perl", "python3", "sed", "tzdata")

# What runs as the guest's first program. Its disk stays as it is: what it writes goes to memory.
START = r"""#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C PYTHONDONTWRITEBYTECODE=1
{
  mount -t proc proc /proc; mount -t sysfs sys /sys
  mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
  hostname guest
  ldconfig -p
  find /etc -type f -exec cat {} +
  for d in /usr/lib/systemd /usr/share/zoneinfo/Europe /usr/share/perl5 /usr/lib/python3.11/json
  do find $d -type f -size -4000k -exec cat {} +; done
  perl -MPOSIX -MSocket -MEncode -MFile::Find -e 'print 1'
  python3 -c 'import json, socket, email.message'
  openssl version -a
  ls -l /usr/bin
} >/dev/null 2>&1 </dev/null
echo "guest: booted $((6*7))"
while read -r line; do eval "$line"; done
"""

# A user comes in: a shell reads its profile, a few programs run.
LOGIN = ("bash --login -c 'id; uname -a; ls /usr/bin | tail -n 1; df; "
         "perl -MPOSIX -e \"print 1\"'; echo \"guest: served $((6*7))\"")
BOOTED, SERVED = "guest: booted 42", "guest: served 42"

BOOT_SCRIPT = """
mount -t ext4 -o ro /dev/vda /root
mount --move /dev /root/dev
umount /proc
exec switch_root /root /sbin/bench-start
"""


def missing():
    """What this machine lacks to make it: a sentence, or None."""
    for program in ("dpkg-query", "mke2fs", "tar"):
        if shutil.which(program) is None:
            return f"no {program}"
    return qemu.missing()


def packages():
    """Installed packages until their sum is CONTENT_MB: the needed ones, then by priority."""
    fields = "${Package}\t${Installed-Size}\t${Priority}\t${Pre-Depends}, ${Depends}\n"
    known = {}
    for line in testbed.run("dpkg-query", "-W", "-f", fields).stdout.splitlines():
        name, size, priority, depends = line.split("\t")
        if size.isdigit() and int(size) < 100 * 1024:
            known[name] = (int(size), priority, re.findall(r"(?:^|[,|])\s*([^\s,|:(]+)", depends))
    needed, todo = set(), list(NEEDED)
    while todo:
        name = todo.pop()
        if name in known and name not in needed:
            needed.add(name)
            todo += known[name][2]
    ranks = {"required": 1, "important": 2, "standard": 3}
    order = sorted(known, key=lambda n: (0 if n in needed else ranks.get(known[n][1], 4), n))
    chosen, total = [], 0
    for name in order:
        if total + known[name][0] < CONTENT_MB * 1024:
            chosen.append(name)
            total += known[name][0]
    return chosen


def make_disk(path):
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        root = pathlib.Path(work) / "root"
        for d in ("bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp"):
            (root / d).mkdir(parents=True, exist_ok=True)
        # As on this machine, /bin and its like may be links to directories of /usr.
        for d in ("bin", "sbin", "lib", "lib64"):
            if os.path.islink(f"/{d}"):
                if (root / d).is_dir():
                    (root / d).rmdir()
                os.symlink(os.readlink(f"/{d}"), root / d)
                (root / "usr" / d).mkdir(parents=True, exist_ok=True)
        names = testbed.run("dpkg", "-L", *packages()).stdout.splitlines()
        files = sorted({n for n in names if n.startswith("/") and os.path.lexists(n)
                        and (os.path.islink(n) or not os.path.isdir(n))})
        pack = subprocess.Popen(["tar", "-C", "/", "--null", "--no-recursion", "-T", "-",
                                 "-cf", "-"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL)
        unpack = subprocess.Popen(["tar", "-C", root, "--keep-directory-symlink", "-xf", "-"],
                                  stdin=pack.stdout, stderr=subprocess.DEVNULL)
        pack.stdout.close()
        pack.stdin.write("\0".join(f[1:] for f in files).encode())
        pack.stdin.close()
        pack.wait()
        unpack.wait()
        testbed.run("ldconfig", "-r", root, check=False)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
        (root / "etc/group").write_text("root:x:0:\n")
        start = root / "sbin/bench-start"
        start.write_text(START)
        start.chmod(0o755)
        testbed.run("mke2fs", "-q", "-t", "ext4", "-d", root, path, f"{DISK_MB}M", timeout=300)


class VmSet:
    """Files of one directory: disk.img, vm.vmem and vm.state (the guest suspended when it waits for
    a login), initramfs, read by QEMU from the host."""

    def __init__(self, directory):
        self.directory = directory
        self.disk = directory / "disk.img"
        self.memory = directory / "vm.vmem"
        self.state = directory / "vm.state"
        self.initramfs = directory / "initramfs"

    def guest(self, disk=None):
        return qemu.Guest(self.initramfs, MEMORY_MB, disk or self.disk)

    def boot(self, disk, memory=None):
        """A running guest that has booted from this disk, and the seconds that it took."""
        guest = qemu.Qemu(self.guest(disk), memory)
        guest.__enter__()
        try:
            guest.wait_console(BOOTED)
        except BaseException:
            guest.close()
            raise
        return guest, time.monotonic() - guest.started

    def make(self):
        qemu.make_initramfs(self.initramfs, BOOT_SCRIPT)
        make_disk(self.disk)
        guest, _ = self.boot(self.disk, self.memory)
        try:
            # What a guest has in its page cache after some time.
            start = guest.say("cat /usr/lib/x86_64-linux-gnu/*.so.* 2>/dev/null | head -c 60M | "
                              "cksum; echo guest: aged $((6*7))")
            guest.wait_console("guest: aged 42", start=start)
            guest.suspend(self.state)
        finally:
            guest.close()
        for path in (self.disk, self.memory, self.state):
            os.utime(path, (1000, 1000))
        (self.directory / "complete").touch()

    def link_into(self, export):
        """Its files in an export, without a copy where the file system allows it."""
        for path in (self.disk, self.memory, self.state):
            try:
                os.link(path, export / path.name)
            except OSError:
                testbed.run("cp", "-p", "--sparse=always", path, export / path.name, timeout=300)


class VmSets:
    """The one set of this run, made when it is first asked for."""

    def __init__(self, kept):
        self.kept = pathlib.Path(kept) if kept else None
        self.temporary = None
        self.made = None

    def get(self):
        if self.made is not None:
            return self.made
        if self.kept:
            directory = self.kept / f"slipway-vm-{RECIPE}-{qemu.version(qemu.kernel())}"
        else:
            self.temporary = testbed.TempTree()
            directory = self.temporary.__enter__() / "vm"
        self.made = VmSet(directory)
        if not (directory / "complete").exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            self.made.make()
        return self.made

    def close(self):
        if self.temporary:
            self.temporary.__exit__()
