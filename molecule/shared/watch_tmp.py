"""Write down, in the file that is given, what root makes in the shared /tmp and /var/tmp from now on."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

IN_CREATE, IN_MOVED_TO = 0x100, 0x80
HEADER = struct.Struct("iIII")


def main() -> None:
    """Watch until the end of the host."""
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = libc.inotify_init()
    watched = {}
    for directory in ("/tmp", "/var/tmp"):  # noqa: S108 (nothing is made there)
        watched[libc.inotify_add_watch(inotify, directory.encode(), IN_CREATE | IN_MOVED_TO)] = Path(directory)
    with Path(sys.argv[1]).open("w", buffering=1, encoding="utf-8") as log:
        while True:
            events = os.read(inotify, 1 << 16)
            while events:
                watch, _, _, length = HEADER.unpack_from(events)
                name = events[HEADER.size : HEADER.size + length].rstrip(b"\0").decode(errors="replace")
                events = events[HEADER.size + length :]
                path = watched[watch] / name
                try:
                    owner = path.lstat().st_uid
                except OSError:
                    owner = 0  # It is gone again, so nobody can tell whose it was.
                if owner == 0:
                    log.write(f"{path}\n")


if __name__ == "__main__":
    main()
