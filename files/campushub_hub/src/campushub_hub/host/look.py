#!/usr/bin/python3 -IS
"""
Look at a home, as its user: ``campushub-look HOME MOUNT_POINT``.

It prints ``looking``, and then, in two lines, ``ok``, ``missing`` or ``unavailable``, and the reason. On storage that
hangs the second part never comes, and no signal ends this program, so whoever starts it must not wait for its end.

People wait for it at each start of a server. So it is a file of its own: Python compiles a program each time that it is
started, and this one takes a third of the time of all that the mediator can do. For the same reason it imports what
Python has in memory anyway.
"""

from __future__ import annotations

import os
import sys

MOUNTS = "/proc/self/mountinfo"


def is_mounted(home: str, mount_point: str) -> bool:
    """Return whether a home, be it there or not, is in something that is mounted at or below a directory."""
    place, found, kind = os.path.realpath(home), "", ""
    # Whoever may mount names the place, in any bytes but those that the kernel escapes.
    with open(MOUNTS, errors="surrogateescape", newline="\n") as table:
        for line in table:
            before, _, after = line.partition(" - ")
            about = before.split(" ")
            where = about[4].rstrip("/") if len(about) > 5 else None
            # What is mounted later at the same place hides what was there.
            if where is not None and f"{place}/".startswith(f"{where}/") and len(where) >= len(found):
                found, kind = where, after.split(" ")[0]
    # That of autofs only waits for somebody to look.
    return f"{found}/".startswith(f"{mount_point}/") and kind != "autofs"


def state_of(home: str, mount_point: str) -> tuple[str, str]:
    """Return ``ok``, ``missing`` or ``unavailable``, and the reason. On storage that hangs this does not return."""
    below = mount_point and f"{home}/".startswith(f"{mount_point}/")
    try:
        os.chdir(home)
        if below and not is_mounted(home, mount_point):
            return "unavailable", f"nothing is mounted at {mount_point}"
        # What a mount remembers of a directory is no sign that it lives.
        os.statvfs(".")
        with os.scandir(".") as entries:
            next(entries, None)
        if not os.access(".", os.W_OK):
            return "unavailable", "it cannot be written to"
    except (FileNotFoundError, NotADirectoryError) as error:
        if below and not is_mounted(home, mount_point):
            return "unavailable", f"nothing is mounted at {mount_point}"
        return "missing", os.strerror(error.errno or 0)
    except OSError as error:
        return "unavailable", os.strerror(error.errno or 0)
    return "ok", ""


if __name__ == "__main__":
    print("looking", flush=True)
    print(*state_of(*sys.argv[1:3]), sep="\n", flush=True)
