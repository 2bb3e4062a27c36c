"""Random operations on files of a mount against arrays of bytes: whatever is read is what the model
says, whatever happens to the process, the server, the caches and the link in between.

SLIPWAY_TEST_SEED replays a run, SLIPWAY_TEST_RUNS multiplies the number of operations."""

import mmap
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import crashbed
import load
import testbed
from crashbed import RUNS, SEED, CrashBed

STEPS = 700


class Model(CrashBed):
    FILES = ("a/disk", "a/config", "b/memory", "b/other", "names/x", "names/y")

    def setUp(self):
        super().setUp()
        self.loads = {}
        self.trace = []
        self.stopped = []

    def start_loads(self):
        for name, record in self.records.items():
            self.loads[name] = load.FileLoad(self.m.path / name, record, self.random.random())
            self.loads[name].open()

    def end_loads(self):
        for each in self.loads.values():
            each.close()
        self.loads = {}

    # Operations. Each gets the name of a file.

    def change(self, name):
        each = self.loads[name]
        for _ in range(self.random.randrange(1, 6)):
            each.step()

    def map_write(self, name):
        self.loads[name].map_write()

    def read(self, name):
        """Some of it, in one of the ways in which a file can be read."""
        want = bytes(self.records[name].content)
        at = self.random.randrange(load.FILE_MAX)
        length = self.random.choice((1, 4096, 20000, 300000))
        how = self.random.randrange(4)
        if how == 0:
            got = os.pread(self.loads[name].fd, length, at)
        elif how == 1:
            with open(self.m.path / name, "rb", buffering=0) as f:
                got = os.pread(f.fileno(), length, at)
        elif how == 2:
            with open(self.m.path / name, "rb") as f:
                at, got = 0, f.read()
            length = len(got) + 1
        else:
            fd = os.open(self.m.path / name, os.O_RDONLY | os.O_DIRECT)
            with mmap.mmap(-1, 1 << 20) as buffer:
                at = at // 4096 * 4096
                n = os.preadv(fd, [buffer], at)
                got, length = buffer[:n], 1 << 20
            os.close(fd)
        self.same(got, want[at:at + length], f"{name} read in way {how} at {at}")

    def size(self, name):
        self.same(os.stat(self.m.path / name).st_size, len(self.records[name].content),
                  f"size of {name}")

    def sparse_read(self, name):
        """What SEEK_DATA calls a hole is zeros."""
        content = self.records[name].content
        fd = self.loads[name].fd
        at = 0
        while at < len(content):
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                data = len(content)
            self.same(content.count(0, at, data), data - at, f"{name}: a hole at {at} to {data}")
            if data >= len(content):
                break
            at = os.lseek(fd, data, os.SEEK_HOLE)
            self.assertGreater(at, data)

    def rename(self, name):
        """Under another name and back, or the other way of changing places."""
        path = self.m.path / name
        os.rename(path, f"{path}.moved")
        self.change(name)
        os.rename(f"{path}.moved", path)

    def exchange(self, name):
        other = self.random.choice([n for n in self.records if n != name])
        self.trace[-1] += f" with {other}"
        code = load.libc.renameat2(-100, bytes(self.m.path / name), -100,
                                   bytes(self.m.path / other), 2)
        self.assertEqual(code, 0)
        for table in (self.records, self.loads):
            table[name], table[other] = table[other], table[name]
        self.loads[name].path, self.loads[other].path = (self.m.path / name, self.m.path / other)

    def replace(self, name):
        """Another file over it; the old one goes on to be written to for a moment."""
        old = self.loads[name]
        data = old.data(self.random.randrange(200_000))
        (self.m.path / "names/new").write_bytes(data)
        os.rename(self.m.path / "names/new", self.m.path / name)
        old.step()
        self.same(os.pread(old.fd, 1 << 20, 0), bytes(old.record.content), f"{name}, nameless")
        old.close()
        self.made_again(name, data)

    def remove(self, name):
        old = self.loads[name]
        os.unlink(self.m.path / name)
        old.step()
        self.same(os.pread(old.fd, 1 << 20, 0), bytes(old.record.content), f"{name}, removed")
        self.assertFalse((self.m.path / name).exists())
        (self.m.path / name).write_bytes(b"new")
        self.made_again(name, b"new")
        old.close()

    def made_again(self, name, data):
        self.records[name] = load.Record(data)
        self.loads[name] = load.FileLoad(self.m.path / name, self.records[name],
                                         self.random.random())
        self.loads[name].open()

    def link(self, name):
        path = self.m.path / name
        os.link(path, f"{path}.link")
        self.change(name)
        os.unlink(path)
        self.change(name)
        os.rename(f"{path}.link", path)

    def touch(self, name):
        os.utime(self.m.path / name, (2000, self.random.randrange(10**9)))

    def chmod(self, name):
        os.chmod(self.m.path / name, self.random.choice((0o600, 0o644, 0o664)))

    def flush(self, _):
        crashbed.sync_names(self.m.path)

    def drop_caches(self, _):
        testbed.drop_caches()

    def reopen(self, name):
        self.loads[name].close()
        self.loads[name].open()

    def without_server(self, name):
        """Writes and reads of what is written go on while the server answers nothing."""
        each = self.loads[name]
        crashbed.sync_names(self.m.path)  # so there is one, even if it was killed a moment ago
        with testbed.stopped_server(self.m):
            for _ in range(3):
                # Whole pages: the rest of one would have to be fetched.
                at = self.random.randrange(load.HOT) // 4096 * 4096
                data = each.data(self.random.randrange(1, 5) * 4096)
                each.write(at, data)
                self.same(os.pread(each.fd, len(data), at), data, f"{name} without a server")
            each.sync()

    def kill_server(self, name):
        for pid in testbed.server_processes(self.m.status()["pid"]):
            testbed.kill_pid(pid)
        self.change(name)

    def kill_client(self, name):
        testbed.kill_pid(self.m.status()["pid"])
        self.end_loads()
        self.m.__enter__()
        self.start_loads()
        self.read(name)

    def remount(self, name):
        self.end_loads()
        self.m.umount()
        self.export_is_the_model()
        self.m.__enter__()
        self.start_loads()
        self.read(name)

    def lose_cache(self, name):
        """Everything is on the server after a flush; the cache may go then."""
        self.end_loads()
        self.m.umount()
        os.rename(self.m.cache, f"{self.m.cache}.{len(self.trace)}")
        self.m.__enter__()
        self.start_loads()
        self.read(name)

    def export_is_the_model(self):
        for name, record in self.records.items():
            self.same((self.export / name).read_bytes(), bytes(record.content), f"{name}, exported")
        self.check_no_conflicts("in the model test")

    def same(self, got, want, what):
        if got == want:
            return
        if isinstance(want, (bytes, bytearray)):
            what += ": " + load.Record(want).explain(got)
        else:
            what += f": {got}, not {want}"
        self.fail(f"seed {SEED}, step {len(self.trace)}: {what}; last: {self.trace[-12:]}; "
                  f"calls: { {name: list(each.did) for name, each in self.loads.items()} }")

    WEIGHTS = {change: 60, read: 50, map_write: 12, size: 10, sparse_read: 5, rename: 5,
               exchange: 4, replace: 3, remove: 3, link: 3, touch: 3, chmod: 3, flush: 6,
               drop_caches: 4, reopen: 6, without_server: 4, kill_server: 2, kill_client: 4,
               remount: 2, lose_cache: 1}

    def test_a_mount_is_an_array_of_bytes(self):
        for size in ("1G", "2M"):
            self.m = self.mount(f"cache_size={size}", "attr_timeout=600" if size == "1G" else
                                "attr_timeout=0")
            self.start_loads()
            steps = self.random.choices(list(self.WEIGHTS), self.WEIGHTS.values(),
                                        k=STEPS * RUNS // 2)
            for step in steps:
                name = self.random.choice(sorted(self.records))
                self.trace.append(f"{step.__name__} {name}")
                step(self, name)
            for name in self.records:
                self.same((self.m.path / name).read_bytes(), bytes(self.records[name].content),
                          name)
            self.end_loads()
            self.m.umount()
            self.export_is_the_model()


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
