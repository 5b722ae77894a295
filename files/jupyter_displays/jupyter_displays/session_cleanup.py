"""What session managers and message buses leave in shared directories when they are ended rather than asked to.

Session managers listen on a socket that is named after their process in a directory that cannot be chosen, and
note in a file how to forget its cookie. Message buses listen on a socket with a name of chance.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import tempfile
import time
from pathlib import Path

from .processes import start_time

_SOCKETS = Path("/tmp/.ICE-unix")  # noqa: S108
_BOUND = Path("/proc/net/unix")
_NOTES = ".xfsm-ICE-*"
_BUSES = "dbus-??????????"
_ENDING = 5.0
# Notes and locks are a few lines.
_LONGEST = 4096


def read_own(path: Path) -> bytes:
    """Return what is in a small file of this user's.

    In a directory that users share another one may have put anything there, such as a pipe that nobody writes to.

    Raises:
        OSError: There is none.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        about = os.fstat(descriptor)
        if about.st_uid != os.getuid() or not stat.S_ISREG(about.st_mode):
            message = f"{path} is no file of this user's"
            raise PermissionError(message)
        return os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)


def _gone(pid: int) -> bool:
    """Return whether there is no such process; one that is about to end, and has no memory any more, is waited for."""
    deadline = time.monotonic() + _ENDING
    while start_time(pid):
        try:
            if Path(f"/proc/{pid}/environ").read_bytes() or time.monotonic() > deadline:
                return False
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            return False
        time.sleep(0.01)
    return True


def _dead(path: Path) -> bool:
    """Return whether this is a socket of this user's that nobody listens on, and never will."""
    about = path.lstat()
    if about.st_uid != os.getuid() or not stat.S_ISSOCK(about.st_mode) or not path.name.isdigit():
        return False
    if not _gone(int(path.name)):
        return False
    deadline = time.monotonic() + _ENDING
    while True:
        # Threads of one that has ended may take a moment longer.
        ending = Path("/proc", path.name).exists() and time.monotonic() < deadline
        # A process that cannot be seen from here may still be there, such as one in another container.
        if _refuses(path):
            return True
        if not ending:
            return False
        time.sleep(0.01)


def _dead_bus(path: Path) -> bool:
    """Return whether this is a socket of this user's that no process has."""
    about = path.lstat()
    if about.st_uid != os.getuid() or not stat.S_ISSOCK(about.st_mode):
        return False
    # A bus that starts has its socket for a moment before it listens.
    # Other users name theirs, in any bytes.
    bound = (line.rpartition(b" ")[2] for line in _BOUND.read_bytes().split(b"\n"))
    return os.fsencode(path) not in bound and _refuses(path)


def _refuses(path: Path) -> bool:
    """Return whether nobody listens on a socket."""
    with socket.socket(socket.AF_UNIX) as knock:
        knock.settimeout(1.0)
        try:
            knock.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def _orphaned(path: Path, sockets: Path) -> bool:
    """Return whether this is a note of this user's, and what it is about is not there any more."""
    names = [os.fsdecode(name) for name in re.findall(rb"\.ICE-unix/(\d+)", read_own(path))]
    return bool(names) and not any((sockets / name).exists() or not _gone(int(name)) for name in names)


def clear(sockets: Path = _SOCKETS, notes: Path | None = None) -> None:
    """Remove what this user's session managers and buses have left that are not there any more."""
    shared = notes or Path(tempfile.gettempdir())
    for path in sockets.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if _dead(path):
                path.unlink()
    for path in shared.glob(_BUSES):
        with contextlib.suppress(OSError):
            if _dead_bus(path):
                path.unlink()
    for path in shared.glob(_NOTES):
        with contextlib.suppress(OSError):
            if _orphaned(path, sockets):
                path.unlink()
