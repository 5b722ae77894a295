#!/usr/bin/python3
"""
A stand-in for CERN's client of EOS 5.4.11 as it was seen to begin and to end; what it mounts is tests/hanging_files.py.

It reads /etc/eos/fuse.NAME.conf by the option fsname and ends with 255 when an option has the wrong type. On options of
mount that it does not know it ends after it has gone to the background, as libfuse 2 does. With `backtrace` on it
unmounts twice when it crashes or is told to end. A manager that does not answer is the file /run/manager-is-silent.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

sys.path.insert(0, "/usr/local/lib/stand-in")
import hanging_files  # type: ignore[import-not-found]  # beside this program on the host

KNOWN = {"rw", "nodev", "nosuid", "dev", "suid", "autofs"}
MNT_DETACH = 2
SILENT = Path("/run/manager-is-silent")


def follow_manager() -> None:
    """Hang while the manager is silent."""
    was_silent = False
    while True:
        if SILENT.exists() != was_silent:
            was_silent = not was_silent
            os.kill(os.getpid(), signal.SIGUSR1 if was_silent else signal.SIGUSR2)
        time.sleep(0.05)


def main(place: str, options: list[str]) -> int:
    """Begin in the foreground, go to the background, and serve."""
    named = dict(option.split("=", 1) for option in options if "=" in option)
    settings = json.loads(Path(f"/etc/eos/fuse.{named['fsname']}.conf").read_text())
    if any(isinstance(value, str) for value in settings["options"].values()):
        # "catched json config exception"
        return 255
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)
        return 0
    unknown = [option for option in options if "=" not in option and option not in KNOWN]
    if unknown:
        return 1

    def tell() -> None:
        # Not before it is mounted: autofs lets only processes of its own group through to the place.
        os.setsid()
        with contextlib.suppress(OSError):
            os.close(writer)

    def end(number: int, _frame: FrameType | None) -> None:
        # Twice with the handler of crashes: the second time takes what waits below the client's own mount.
        for _ in range(2 if handles else 1):
            # Not by umount(8), which would ask this file system about itself.
            ctypes.CDLL(None).umount2(place.encode(), MNT_DETACH)
        os._exit(128 + number)

    handles = settings["options"].get("backtrace", 1)
    signal.signal(signal.SIGTERM, end)
    if handles:
        signal.signal(signal.SIGSEGV, end)
    threading.Thread(target=follow_manager, daemon=True).start()
    hanging_files.main(place, 0, "eosxd", tell)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[3].split(",")))
