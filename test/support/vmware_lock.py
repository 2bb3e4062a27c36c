"""VMware's portable file lock: Lamport's bakery with directories and small files, as its open file
library does it."""

import contextlib
import errno
import os
import random
import time

RECORD = 512  # bytes of a member file
TOO_LONG = 100  # seconds


def absent(call, *arguments):
    """Whether what the call is about is not there."""
    try:
        call(*arguments)
    except FileNotFoundError:
        return True
    return False


class Lock:
    """One process's side of the lock of a file."""

    def __init__(self, path, who):
        self.directory = f"{path}.lck"
        self.who = who
        self.deadline = time.monotonic() + TOO_LONG

    def name(self, letter):
        return f"{self.directory}/{letter}{self.number}.lck"

    def acquire(self):
        while not self.enter():
            self.pause()
        while not self.is_first():
            self.pause()

    def pause(self):
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"{self.who} waits; there are {os.listdir(self.directory)}")
        time.sleep(random.uniform(0.001, 0.02))

    def enter(self):
        """Becomes a member with a ticket behind all others; False when it must begin again."""
        with contextlib.suppress(FileNotFoundError):
            os.stat(self.directory)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.directory, 0o777)
        self.number = f"{random.randrange(100):05d}"  # few, so that they collide
        try:
            os.mkdir(self.name("D"), 0o777)
        except (FileExistsError, FileNotFoundError):
            return False  # taken, or the last holder removed the lock's directory
        if not absent(os.stat, self.name("M")):
            os.rmdir(self.name("D"))
            return False
        fd = os.open(self.name("E"), os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o644)
        try:
            tickets = [ticket for ticket, _ in self.members().values()]
            self.ticket = max(tickets, default=0) + 1
            record = f"{self.ticket} {self.who}".encode().ljust(RECORD, b"\0")
            if os.write(fd, record) != RECORD:
                raise OSError(errno.EIO, "a short write")
        finally:
            os.close(fd)
        os.rename(self.name("E"), self.name("M"))
        os.rmdir(self.name("D"))
        return True

    def members(self):
        """Tickets by number."""
        found = {}
        for name in os.listdir(self.directory):
            if not name.startswith("M"):
                continue
            try:
                with open(f"{self.directory}/{name}", "rb") as f:
                    record = f.read()
            except FileNotFoundError:
                continue  # given up meanwhile
            if len(record) != RECORD:
                raise AssertionError(f"{name} is a member with {len(record)} bytes")
            ticket, who = record.rstrip(b"\0").decode().split(" ", 1)
            found[name[1:-4]] = (int(ticket), who)
        return found

    def is_first(self):
        names = os.listdir(self.directory)
        if f"M{self.number}.lck" not in names:
            raise AssertionError(f"{self.who} does not see its own entry: {names}")
        if any(name.startswith("D") for name in names):
            return False  # somebody chooses a ticket
        mine = (self.ticket, self.number)
        return all(mine <= (ticket, number) for number, (ticket, _) in self.members().items())

    def release(self):
        os.unlink(self.name("M"))
        with contextlib.suppress(FileNotFoundError):
            try:
                os.rmdir(self.directory)
            except OSError as e:
                if e.errno != errno.ENOTEMPTY:
                    raise
