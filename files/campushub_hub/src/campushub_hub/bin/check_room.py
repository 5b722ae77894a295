#!/usr/bin/python3 -I
"""
Hold back room on the disk for the hub, and say so when there is none. Runs before each start of the hub.

Users may fill the disk that the hub has its database on, and a hub that cannot write does not start. A file holds room
back; a start that finds the disk full gives it back to the hub. Without even that the hub does not start, the journal
says why, and the service manager tries again until there is room.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

STATE = Path("/var/lib/jupyterhub")
# Backups leave out what is called so.
RESERVE = ".campushub-reserve"
RESERVED = 64 * 2**20
NEEDED = 32 * 2**20


def free(directory: Path) -> int:
    """Return how many bytes this user can write; file systems hold some back for root."""
    state = os.statvfs(directory)
    return state.f_frsize * (state.f_bavail if os.geteuid() else state.f_bfree)


def main(state: Path = STATE) -> int:
    """Make sure that the hub can write."""
    reserve = state / RESERVE
    if free(state) < NEEDED and reserve.exists():
        reserve.unlink()
        print(f"The disk of {state} is full: the hub starts with what was held back for it. Make room soon.")
    room = free(state)
    if room < NEEDED:
        needed, there = NEEDED >> 20, room >> 20
        print(
            f"No room on the disk of {state}: {there} MB are free, {needed} MB are needed. Make room.", file=sys.stderr
        )
        return 1
    # Not the last of what others need.
    if not reserve.exists() and room > NEEDED + 2 * RESERVED:
        with reserve.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
