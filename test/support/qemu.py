"""Guests in QEMU (TCG) that can be suspended: their memory is one flat file, from which a later
QEMU goes on by mapping it. Standard library only.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

import testbed

QEMU = "qemu-system-x86_64"
MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")


def kernel():
    """The newest kernel in /boot whose modules are there, or None."""
    found = [k for k in sorted(pathlib.Path("/boot").glob("vmlinuz-*"))
             if pathlib.Path("/lib/modules", version(k)).is_dir()]
    return found[-1] if found else None


def version(kernel_file):
    return kernel_file.name.removeprefix("vmlinuz-")


def missing():
    """What this machine lacks for guests in QEMU: a sentence, or None."""
    for program in (QEMU, "busybox", "modprobe"):
        if shutil.which(program) is None:
            return f"no {program}"
    return None if kernel() else "no kernel with modules in /boot"


INITRAMFS_HEAD = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
"""


def make_initramfs(path, script, modules=MODULES, files=()):
    """An initramfs with busybox that loads the kernel's modules and runs the script. `files` go to
    /lib."""
    root = path.parent / f"{path.name}.root"
    for d in ("bin", "dev", "proc", "sys", "tmp", "root", "lib"):
        (root / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    inserts = []
    for module in modules:
        needs = testbed.run("modprobe", "-D", "-S", version(kernel()), module).stdout
        for line in needs.splitlines():
            words = line.split()
            if words[:1] == ["insmod"] and pathlib.Path(words[1]).name not in inserts:
                shutil.copy(words[1], root / "lib")
                inserts.append(pathlib.Path(words[1]).name)
    for f in files:
        shutil.copy(f, root / "lib" / f.name)
    load = "".join(f"insmod /lib/{name} 2>/dev/null\n" for name in inserts)
    (root / "init").write_text(INITRAMFS_HEAD + load + script)
    (root / "init").chmod(0o755)
    with open(path, "wb") as out:
        find = subprocess.run(["find", "."], cwd=root, stdout=subprocess.PIPE, check=True)
        subprocess.run(["/bin/busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=find.stdout,
                       stdout=out, stderr=subprocess.DEVNULL, check=True)
    shutil.rmtree(root)


def knows_rom():
    return "rom=" in testbed.run(QEMU, "-object", "memory-backend-file,help").stdout


class Guest:
    """What a QEMU runs: its virtual hardware, the same before a suspension and after it."""

    def __init__(self, initramfs, memory_mb, disk=None, append=""):
        self.initramfs, self.memory_mb, self.disk = initramfs, memory_mb, disk
        self.append = f"console=ttyS0 quiet panic=-1 {append}"

    def arguments(self, memory, private):
        backend = f"memory-backend-file,id=m,size={self.memory_mb}M,mem-path={memory}"
        if private:
            backend += ",share=off,readonly=on,rom=off" if knows_rom() else ",share=off"
        else:
            backend += ",share=on"
        drive = ["-drive", f"file={self.disk},format=raw,if=virtio,readonly=on"]
        return [QEMU, "-nodefaults", "-machine", "q35,memory-backend=m", "-accel", "tcg",
                "-m", f"{self.memory_mb}M", "-object", backend, "-display", "none", "-no-reboot",
                "-kernel", str(kernel()), "-initrd", str(self.initramfs), "-append", self.append,
                *(drive if self.disk else [])]


class Qemu:
    """One QEMU process; its guest's serial console and its monitor (QMP).

    Without `state` the guest boots, with its memory in the file `memory` (made by QEMU; none when
    None). With `state` it goes on where suspend() left it: `memory` is mapped privately. A QEMU that
    does not know rom=off opens it for writing all the same: mount with writable_opens.
    """

    def __init__(self, guest, memory=None, state=None):
        self.guest, self.memory, self.state = guest, memory, state
        self.console = b""
        self.changed = threading.Condition()
        self.events = []

    def __enter__(self):
        self.started = time.monotonic()
        ours, its = socket.socketpair()
        arguments = self.guest.arguments(self.memory or "/dev/shm", bool(self.state))
        if self.memory is None:
            arguments[arguments.index("-object") + 1] = \
                f"memory-backend-ram,id=m,size={self.guest.memory_mb}M"
        if self.state:
            arguments += ["-incoming", "defer"]
        arguments += ["-serial", "stdio", "-chardev", f"socket,id=qmp,fd={its.fileno()}",
                      "-mon", "chardev=qmp,mode=control"]
        with its:
            self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                            pass_fds=[its.fileno()])
        self.reader = threading.Thread(target=self.read_console)
        self.reader.start()
        self.monitor = ours
        self.monitor.settimeout(300)
        self.lines = ours.makefile("r")
        try:
            if not self.lines.readline():
                raise RuntimeError(f"QEMU ended: {self.text()}")
            self.ask("qmp_capabilities")
            if self.state:
                self.resume()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """The guest loses its power."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.lines.close()
        self.monitor.close()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()

    def read_console(self):
        while data := os.read(self.process.stdout.fileno(), 4096):
            with self.changed:
                self.console += data
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def text(self):
        return self.console.decode(errors="replace")

    def wait_console(self, pattern, timeout=240, start=0):
        """Waits for a regular expression on the console, from byte `start` on; the match."""
        deadline = time.monotonic() + timeout
        expression = re.compile(pattern.encode())
        with self.changed:
            while not (match := expression.search(self.console, start)):
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise TimeoutError(f"no {pattern!r} on the console: {self.text()[-2000:]}")
                self.changed.wait(min(left, 1))
        return match

    def say(self, line):
        """Types a line on the console; where its answer will begin."""
        start = len(self.console)
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return start

    def ask(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.monitor.sendall(json.dumps(request).encode() + b"\n")
        while True:
            line = self.lines.readline()
            if not line:
                raise RuntimeError(f"QEMU ended at {command}: {self.text()[-2000:]}")
            answer = json.loads(line)
            if "event" in answer:
                self.events.append(answer["event"])
            elif "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def share_memory(self):
        self.ask("migrate-set-capabilities",
                 capabilities=[{"capability": "x-ignore-shared", "state": True}])

    def wait_migration(self):
        def status():
            s = self.ask("query-migrate").get("status")
            if s in ("failed", "cancelled"):
                raise RuntimeError(f"migration {s}: {self.text()[-2000:]}")
            return s == "completed"

        testbed.wait_for(status, "the migration", timeout=300)

    def suspend(self, state):
        """Stops the guest; what is not its memory goes to the file `state`."""
        self.ask("stop")
        self.share_memory()
        self.ask("migrate", uri=f"exec:cat > {state}")
        self.wait_migration()

    def resume(self):
        self.share_memory()
        self.ask("migrate-incoming", uri=f"exec:cat {self.state}")
        self.wait_migration()
        self.ask("cont")
        self.running = time.monotonic()
