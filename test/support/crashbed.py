"""A mount under a load that crashes, and the checks afterwards: what was acknowledged must be there."""

import contextlib
import os
import pathlib
import random
import shutil
import unittest

import load
import testbed
from testbed import Mount, TempTree

SEED = int(os.environ.get("SLIPWAY_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
RUNS = int(os.environ.get("SLIPWAY_TEST_RUNS", "1"))
OPTIONS = os.environ.get("SLIPWAY_TEST_OPTIONS", "").split()  # of all mounts, such as "lease=no"


@contextlib.contextmanager
def environment(**values):
    """Variables of the environment; None: not set."""
    before = {name: os.environ.get(name) for name in values}

    def put(wanted):
        for name, value in wanted.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = str(value)

    put(values)
    try:
        yield
    finally:
        put(before)


def has_ended(pid):
    """Whether a process is gone, or waits to be buried."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def server_script(directory, wrap=""):
    """A server_command: a script that dies at a fault point when arm_server() said so, once."""
    path = pathlib.Path(directory) / "server"
    path.write_text(f"""#!/bin/sh
if fault=$(cat {directory}/armed 2>/dev/null) && rm {directory}/armed 2>/dev/null; then
  export SLIPWAY_FAULT="$fault"
fi
exec {wrap} {testbed.SLIPWAYD} "$@"
""")
    path.chmod(0o755)
    return f"{path} session"


def sync_names(path):
    """Flushes the mount: when it returns the server has what was written before it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class CrashBed(unittest.TestCase):
    """One export with files in two directories, and a directory of names that come and go."""

    FILES = ("a/disk", "a/config", "b/memory", "b/other")

    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        state = environment(XDG_STATE_HOME=self.dir / "state", SLIPWAY_FAULT=None)
        state.__enter__()
        self.addCleanup(state.__exit__, None, None, None)
        self.export = self.dir / "export"
        self.random = random.Random(SEED)
        self.records = {}
        self.names = {}
        for name in ("a", "b", "names"):
            (self.export / name).mkdir(parents=True)
        for name in self.FILES:
            content = self.random.randbytes(self.random.randrange(load.FILE_MAX))
            (self.export / name).write_bytes(content)
            os.utime(self.export / name, (1000, 1000))
            self.records[name] = load.Record(content)

    def mount(self, *options, cache="cache", name="mnt", fault=None, **kwargs):
        mount = Mount(f"local:{self.export}", self.dir,
                      [f"server_command={server_script(self.dir)}", *OPTIONS, *options], name=name, **kwargs)
        mount.cache = self.dir / cache
        with environment(SLIPWAY_FAULT=fault):
            mount.__enter__()
        self.addCleanup(mount.__exit__)
        return mount

    def arm_server(self, fault):
        (self.dir / "armed").write_text(fault)

    def start(self, mount, names=True):
        """Loads on all files; `names`: and on the names, which flushes all the time."""
        loads = [load.FileLoad(mount.path / name, record, self.random.random())
                 for name, record in self.records.items()]
        for each in loads:
            each.open()
        self.name_load = load.NameLoad(mount.path / "names", self.random.random())
        self.name_load.names = self.names
        self.workers = load.Workers(loads + ([self.name_load] if names else []))
        return loads

    def finish(self, loads):
        self.workers.stop()
        for each in loads:
            each.close()

    def wait_dead(self, mount, pid):
        """Until the mount's process has ended (by a fault point), and its loads with it."""
        testbed.wait_for(lambda: has_ended(pid), "the fault point to be reached", 30)
        testbed.wait_for(lambda: testbed.is_dead(mount.path), "the mount to be dead")

    # Checks.

    def check_file(self, name, content, where):
        record = self.records[name]
        if not record.matches(content):
            self.fail(f"seed {SEED}: {name} {where}: {record.explain(content)}")

    def check_through(self, mount, where):
        """What a mount shows is what the records say. Then the records say what was found."""
        for name, record in self.records.items():
            content = (mount.path / name).read_bytes()
            self.assertEqual(os.stat(mount.path / name).st_size, len(content))
            self.check_file(name, content, where)
            record.settle(content)
        found = load.read_names(mount.path / "names")
        if found not in self.name_load.possible():
            self.fail(f"seed {SEED}: names {where}: {describe(found)}; may be "
                      f"{[describe(n) for n in self.name_load.possible()]}")
        self.name_load.settle(found)
        self.names = found

    def check_export(self, where):
        for name in self.records:
            self.check_file(name, (self.export / name).read_bytes(), f"in the export {where}")
        self.assertEqual(describe(load.read_names(self.export / "names")), describe(self.names),
                         f"seed {SEED}: names in the export {where}")
        self.check_no_conflicts(where)

    def check_no_conflicts(self, where):
        copies = [str(p) for p in self.export.rglob("*.conflict-*")]
        copies += [str(p) for p in self.dir.glob("*/refused/*")]
        copies += [str(p) for pattern in ("damaged-*", "refused-*")
                   for root in (self.export, self.dir / "state")
                   for p in root.rglob(pattern)]
        self.assertEqual(copies, [], f"seed {SEED}: conflicts {where}")

    def check_drained(self, mount, where):
        """Drains, then looks at the server's files, and at them through an empty cache."""
        sync_names(mount.path)
        writes = mount.status()["writes"]
        self.assertEqual((writes["unsent_files"], writes["conflicts"]), (0, []), f"seed {SEED}")
        self.check_export(where)
        empty = self.mount(cache="empty-cache", name="empty")
        self.check_through(empty, f"through an empty cache {where}")
        empty.umount()
        shutil.rmtree(empty.cache)
        self.check_through(mount, f"again {where}")


def describe(names):
    return {name: f"{len(content)} bytes, {content[:6].hex()}" for name, content in names.items()}
