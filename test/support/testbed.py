"""The parts of which system tests and benchmarks are made: network namespaces with an emulated
wide-area link between them, a private sshd, a slipway mount, a small guest.

Every part is a context manager that removes what it made and ends only the processes that it
started. Standard library only. Environment: SLIPWAY, SLIPWAYD and LINK_EMULATOR name the binaries
under test (set by meson).
"""

import contextlib
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SLIPWAY = os.environ.get("SLIPWAY", "slipway")
SLIPWAYD = os.environ.get("SLIPWAYD", "slipwayd")
LINK_EMULATOR = os.environ.get("LINK_EMULATOR", "link_emulator")
SSHD = "/usr/sbin/sshd"
CLIENT_ADDRESS = "10.77.0.1"
SERVER_ADDRESS = "10.77.0.2"
UNIT = 16 * 1024
SKIP = 77  # the exit status by which meson knows a skipped test


def missing():
    """What this machine lacks for system tests: a sentence, or None."""
    if os.geteuid() != 0:
        return "not root"
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse"
    if not os.path.exists(SSHD):
        return "no sshd"
    return None


def run(*command, check=True, timeout=60, **kwargs):
    """Runs a command to its end and returns it with its output as text."""
    return subprocess.run([str(c) for c in command], check=check, timeout=timeout, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def wait_for(condition, what, timeout=15.0):
    """Waits until the condition holds and returns its value; an error names what was awaited."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.02)


def stop(process, timeout=10):
    """Ends a process that we started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


class TempTree:
    """A directory of the test's own, on a real file system. What a sanitizer finds in the programs
    goes to files in it, for a daemon has no terminal; at the end any such report is an error."""

    def __enter__(self):
        base = os.environ.get("SLIPWAY_TEST_DIR", "/var/tmp")
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="slipway-system-", dir=base))
        self.environment = {name: os.environ[name] for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS")
                            if name in os.environ}
        for name, options in self.environment.items():
            os.environ[name] = f"{options}:log_path={self.path}/sanitizer"
        return self.path

    def __exit__(self, *exc):
        os.environ.update(self.environment)
        end_sessions(self.path)
        reports = [report.read_text(errors="replace") for report in self.path.glob("sanitizer.*")]
        shutil.rmtree(self.path, ignore_errors=True)
        if reports:
            raise AssertionError("\n".join(reports))


def end_sessions(directory):
    """Ends what works below the directory: a client that was killed leaves its session waiting for
    it, for ten minutes; one that has something unsent stays for ever when its export is gone."""
    for name in ("slipway", "slipwayd"):
        end_processes(name, directory)


def end_processes(name, directory):
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() != name:
                continue
            serves = any(os.readlink(fd).startswith(f"{directory}/")
                         for fd in (process / "fd").iterdir())
        except OSError:
            continue  # it has ended meanwhile
        if serves:
            kill_pid(int(process.name))


class Link:
    """Two namespaces, client and server, with the emulated link between them; of several each has a
    tag of its own."""

    def __init__(self, rtt_ms=32, rate_mbit=100, queue_kb=1000, loss=0, tag=""):
        tag = f"{os.getpid():x}{tag}"
        self.client = f"swc{tag}"
        self.server = f"sws{tag}"
        self.arguments = ["--rtt-ms", rtt_ms, "--rate-mbit", rate_mbit, "--queue-kb", queue_kb,
                          "--loss", loss]
        self.process = None

    def __enter__(self):
        try:
            for name in (self.client, self.server):
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
                use_common_congestion_control(name)
            self.process = subprocess.Popen(
                [LINK_EMULATOR, "--a", self.client, "--b", self.server,
                 *[str(a) for a in self.arguments]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if self.process.stdout.readline().strip() != "ready":
                raise RuntimeError("the link emulator did not start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
        for name in (self.client, self.server):
            run("ip", "netns", "del", name, check=False)

    def tell(self, command):
        """cut, restore, block FIRST LAST, unblock, rtt, rate, queue, loss, stats."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def stats(self):
        """(packets, bytes, drops) from client to server, and from server to client."""
        numbers = [int(word) for word in self.tell("stats").split() if word.isdigit()]
        return tuple(numbers[:3]), tuple(numbers[3:])

    def in_client(self):
        # Not `ip netns exec`: it unshares the mount namespace, which would hide mounts.
        return ["nsenter", f"--net=/run/netns/{self.client}"]

    def in_server(self):
        return ["nsenter", f"--net=/run/netns/{self.server}"]


def use_common_congestion_control(namespace):
    """cubic, which is Linux's default, else reno, which is always allowed: a machine may be set to
    bbr, which paces a connection that has only carried small answers at a fraction of the link."""
    for name in ("cubic", "reno"):
        if run("nsenter", f"--net=/run/netns/{namespace}", "sysctl", "-qw",
               f"net.ipv4.tcp_congestion_control={name}", check=False).returncode == 0:
            return


class NoLink:
    """The same interface on loopback, without namespaces."""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def in_client(self):
        return []

    def in_server(self):
        return []


def free_port():
    """Not one of the data ports, which a test may block."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if not 60100 <= port <= 60999:
            return port


class Sshd:
    """A private sshd with keys of its own, and the client's files that know it."""

    def __init__(self, directory, link=None, extra_config="", forced_command=None):
        self.directory = pathlib.Path(directory) / "ssh"
        self.link = link or NoLink()
        self.address = SERVER_ADDRESS if isinstance(self.link, Link) else "127.0.0.1"
        self.port = free_port()
        self.extra_config = extra_config
        self.forced_command = forced_command
        self.process = None

    def __enter__(self):
        d = self.directory
        d.mkdir(mode=0o700)
        os.makedirs("/run/sshd", exist_ok=True)
        for name in ("host", "user", "stranger"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d / name)
        public = (d / "user.pub").read_text()
        restrict = f'restrict,command="{self.forced_command}" ' if self.forced_command else ""
        (d / "authorized_keys").write_text(restrict + public)
        host_key = (d / "host.pub").read_text().split()
        self.known_hosts = d / "known_hosts"
        self.known_hosts.write_text(f"[{self.address}]:{self.port} {host_key[0]} {host_key[1]}\n")
        (d / "sshd_config").write_text(f"""
Port {self.port}
ListenAddress {self.address}
HostKey {d}/host
AuthorizedKeysFile {d}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
LogLevel ERROR
Subsystem slipway {SLIPWAYD} session
{self.extra_config}
""")
        self.config = d / "config"
        self.config.write_text(f"""
Host server
  HostName {self.address}
  Port {self.port}
  User root
  IdentityFile {d}/user
  IdentitiesOnly yes
  UserKnownHostsFile {self.known_hosts}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
""")
        self.start()
        return self

    def start(self):
        self.log = open(self.directory / "sshd.log", "a+b")
        self.process = subprocess.Popen([*self.link.in_server(), SSHD, "-D", "-e", "-f",
                                         str(self.directory / "sshd_config")],
                                        stderr=self.log, stdin=subprocess.DEVNULL)

        def answers():
            probe = [*self.link.in_server(), "bash", "-c",
                     f"exec 3<>/dev/tcp/{self.address}/{self.port}"]
            return run(*probe, check=False).returncode == 0

        wait_for(answers, "sshd")

    def __exit__(self, *exc):
        if self.process is not None:
            stop(self.process)
            self.log.close()

    def reboot(self):
        """As when the server's host starts anew: all its processes are gone, and then sshd is back."""
        stop(self.process)
        self.log.close()
        for pid in run("ip", "netns", "pids", self.link.server).stdout.split():
            if b"slipwayd" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        self.start()

    def options(self):
        """Mount options that lead here; SLIPWAY_TEST_SSH_COMMAND=ssh goes over OpenSSH instead of
        libssh."""
        command = os.environ.get("SLIPWAY_TEST_SSH_COMMAND")
        how = f"ssh_command={command} -F {self.config}" if command else f"ssh_config={self.config}"
        return [how, f"server_command={SLIPWAYD} session"]


class Mount:
    """A slipway mount in a process of its own. `source` is host:/dir or local:/dir."""

    def __init__(self, source, directory, options=(), link=None, name="mnt", check=True):
        self.source = source
        self.directory = pathlib.Path(directory)
        self.path = self.directory / name
        self.cache = self.directory / "cache"
        self.options = list(options)
        self.link = link or NoLink()
        self.check = check
        self.result = None

    def command(self):
        options = ",".join([f"cache={self.cache}", *self.options])
        return [*self.link.in_client(), SLIPWAY, "mount", self.source, str(self.path), "-o", options]

    def __enter__(self):
        with contextlib.suppress(FileExistsError):  # perhaps a dead mount, which can't be looked at
            os.mkdir(self.path)
        self.result = run(*self.command(), check=False, timeout=150)
        if self.check and self.result.returncode != 0:
            raise RuntimeError(f"mount failed ({self.result.returncode}): {self.result.stderr}")
        return self

    def __exit__(self, *exc):
        if os.path.ismount(self.path) or is_dead(self.path):
            if self.umount(check=False).returncode != 0:
                run(SLIPWAY, "umount", "-l", self.path, check=False)

    def umount(self, check=True):
        return run(SLIPWAY, "umount", self.path, check=check)

    def status(self):
        return json.loads(run(SLIPWAY, "status", "--json", self.path).stdout)

    def wait_transport(self, word, timeout=20):
        """Waits until `slipway status` names this transport, such as "tcp"."""
        wait_for(lambda: word in self.status()["link"]["transport"], f"transport {word}", timeout)


def server_processes(client):
    """slipwayd of a local mount whose process is `client`: its children, and theirs."""
    found = []
    for pid in map(int, run("pgrep", "-P", client, check=False).stdout.split()):
        found += server_processes(pid)
        with contextlib.suppress(FileNotFoundError):
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "slipwayd":
                found.append(pid)
    return found


@contextlib.contextmanager
def stopped_server(mount):
    """Within this the server of a local mount answers nothing; it takes no notice of it."""
    pids = server_processes(mount.status()["pid"])
    if not pids:
        raise RuntimeError("a mount without a server")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def is_dead(path):
    try:
        os.stat(path)
    except OSError as e:
        return e.errno == 107  # ENOTCONN
    return False


def kill_pid(pid, how=signal.SIGKILL):
    """Ends one process of the system under test, and waits until all its threads are gone."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            os.kill(pid, how)
            if not select.select([fd], [], [], 15)[0]:
                raise TimeoutError(f"process {pid} did not end")
        finally:
            os.close(fd)


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def random_file(path, size):
    """Incompressible content."""
    with open(path, "wb") as f:
        left = size
        while left > 0:
            n = min(left, 1 << 20)
            f.write(os.urandom(n))
            left -= n


def patterned_image(path, units, seed):
    """An image of units of 16 KiB as guests leave them: of each eight, three are zero, three are
    incompressible and two are text; the second 4 MiB are all zero. The zeros are written, so that
    the file has no holes; the last unit is a short one. Its content."""
    generator = random.Random(seed)
    content = bytearray()
    for unit in range(units):
        if unit % 8 < 3 or 256 <= unit < 512:
            content += bytes(UNIT)
        elif unit % 8 < 6:
            content += generator.randbytes(UNIT)
        else:
            line = b"unit %d of the image made from seed %d\n" % (unit, seed)
            content += (line * (UNIT // len(line) + 1))[:UNIT]
    content += generator.randbytes(1000)
    pathlib.Path(path).write_bytes(content)
    return bytes(content)


def data_extents(content):
    """What is not zero, by units: a list of [begin, end)."""
    extents = []
    for begin in range(0, len(content), UNIT):
        end = min(begin + UNIT, len(content))
        if content.count(0, begin, end) == end - begin:
            continue
        if extents and extents[-1][1] == begin:
            extents[-1][1] = end
        else:
            extents.append([begin, end])
    return extents


def slipwayd(*arguments, check=True):
    return run(SLIPWAYD, *arguments, check=check)


def publish(*arguments):
    """Publishes, and waits until the files' change times, which publishing moves, are old enough
    for a server to believe the manifests. What publish said, by path."""
    lines = slipwayd("publish", "--json", *arguments).stdout.splitlines()
    time.sleep(2.1)
    said = [json.loads(line) for line in lines]
    return {line["path"]: line for line in said if line["event"] in ("published", "skipped")}


def manifest(image):
    """What `slipwayd manifest show` says of it."""
    return json.loads(slipwayd("manifest", "show", "--json", image, check=False).stdout)


GUEST_INIT = """#!/bin/sh
mount -t proc proc /proc
echo "guest: $(uname -sr) is up"
{script}
echo "guest: done $((6*7))"
poweroff -f
"""


def make_guest_image(path, size_mb=64, script="ls /bin | wc -l", payload_mb=8):
    """A root disk with a busybox shell that runs the script at boot and powers off."""
    with tempfile.TemporaryDirectory(dir=pathlib.Path(path).parent) as work:
        root = pathlib.Path(work) / "root"
        for d in ("bin", "dev", "proc", "sys", "tmp", "etc", "data"):
            (root / d).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in run("/bin/busybox", "--list").stdout.split():
            if applet != "busybox":
                os.symlink("busybox", root / "bin" / applet)
        if payload_mb:
            random_file(root / "data/payload", payload_mb << 20)
        init = root / "init"
        init.write_text(GUEST_INIT.format(script=script))
        init.chmod(0o755)
        run("mke2fs", "-q", "-t", "ext4", "-d", root, path, f"{size_mb}M")


def boot_uml(base, cow, timeout=120):
    """Boots user-mode Linux from base with a copy-on-write file; its console output and seconds."""
    started = time.monotonic()
    result = run("linux.uml", f"ubd0={cow},{base}", "root=/dev/ubda", "rw", "mem=128M",
                 "con0=fd:0,fd:1", "con=null", "init=/init", stdin=subprocess.DEVNULL,
                 timeout=timeout, check=False)
    return result.stdout, time.monotonic() - started
