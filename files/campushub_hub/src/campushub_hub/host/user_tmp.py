#!/usr/bin/python3 -I
"""
Make or remove the temporary directories that the servers of one user share. Runs as root.

``campushub-user-tmp make UID DIRECTORY`` and ``remove UID`` are the start and the end of the unit jupyterhub-tmp@UID.
The units of the user's servers require it: the service manager starts it for the first and stops it after the last.

Before the hub starts ``mount`` gives the runtime directories of all users a file system of their own. They are in
memory, and what a user writes from outside of a server counts towards no limit of the user's: in that of /run nobody
could write any more, the service manager included. It is one for all, since a user's servers, programs that run before
them and the token of their login need the directory at different times.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

RUNTIME_ROOT = Path("/run/jupyterhub-users")
# Its file system, and in that each user where Linux can (from 6.6 on, as it was built).
SPACE = "mode=0755,nosuid,nodev,size=10%,nr_inodes=200k"
QUOTA = "usrquota,usrquota_block_hardlimit=64M,usrquota_inode_hardlimit=10k"
# A link for each user who has such directories, to where they are: another setting counts from the next first server.
PLACES = Path("/run/jupyterhub-tmp")
# The hub publishes it before the first server starts.
TOKEN = "oauth2_token"  # noqa: S105 (the name of a file)
# A program of its own, because users can make directories that are deeper than Python can go.
DELETE = ["/bin/rm", "-rf", "--one-file-system", "--"]


def discard(place: Path) -> None:
    """
    Delete a user's directory, which may hold millions of files, without waiting for more than a second.

    The unit lets the program run on, because the user's next server cannot start while the unit stops.
    """
    if place.is_dir() and not place.is_symlink():
        place.rename(place.with_name(f".{place.name}-{time.time_ns()}"))
    # What an earlier one, cut off by the end of the host, has left as well.
    gone = [str(path) for path in place.parent.glob(f".{place.name}-*")]
    deletion = subprocess.Popen(["/usr/bin/nice", *DELETE, *gone], start_new_session=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        deletion.wait(1)


def make(place: Path, link: Path) -> None:
    """Make the directories: as open as those of the host, in one that nobody but root can enter."""
    for directory in (place.parent, link.parent):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.exists():
        # A host that went down has left them.
        discard(place)
    place.mkdir(mode=0o700)
    for name in ("tmp", "var-tmp"):
        (place / name).mkdir()
        (place / name).chmod(0o1777)
    link.unlink(missing_ok=True)
    link.symlink_to(place)


def show(*units: str) -> list[dict[str, str]]:
    """Return what the service manager says about units."""
    command = ["/usr/bin/systemctl", "show", "--property=Slice,ActiveState", *units]
    shown = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout
    return [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.strip().split("\n\n")]


def mount(root: Path) -> None:
    """Mount the file system of the runtime directories, unless servers run that have theirs elsewhere."""
    if root.is_mount():
        return
    servers = ["jupyterhub-user-*.service", "jupyterhub-user-*.scope"]
    command = ["/usr/bin/systemctl", "list-units", "--quiet", "--no-legend", "--state=active", *servers]
    if subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.strip():
        print(f"Servers run: nothing is mounted at {root} until the hub starts without any.")
        return
    root.mkdir(mode=0o755, exist_ok=True)
    for options in (f"{SPACE},{QUOTA}", SPACE):
        command = ["/bin/mount", "-t", "tmpfs", "-o", options, "jupyterhub-users", str(root)]
        if subprocess.run(command, check=False, capture_output=options != SPACE).returncode == 0:
            return
    raise SystemExit(f"Nothing could be mounted at {root}")


def runs_former_server(uid: str) -> bool:
    """Return whether a server of the user runs without these directories, such as one of a former release."""
    return any(
        unit.get("Slice") == f"jupyterhub-{uid}.slice" and unit["ActiveState"] == "active"
        for unit in show("jupyterhub-user-*.service", "jupyterhub-user-*.scope")
    )


def remove(link: Path, runtime: Path) -> None:
    """Remove the directories, and what is left in the user's runtime directory, which is in memory."""
    try:
        # First of all: the next server may be about to start.
        if runtime.is_dir() and not runs_former_server(runtime.name):
            # However many there are: names on one command line have a limit.
            left = ["/usr/bin/find", str(runtime), "-mindepth", "1", "-maxdepth", "1", "!", "-name", TOKEN]
            subprocess.run([*left, "-exec", *DELETE, "{}", "+"], check=False)
    finally:
        if link.is_symlink():
            discard(link.readlink())
            link.unlink()


if __name__ == "__main__":
    action, *arguments = sys.argv[1:]
    if action == "mount":
        mount(RUNTIME_ROOT)
    elif action == "make":
        user, directory = arguments
        make(Path(directory, user), PLACES / user)
    else:
        remove(PLACES / arguments[0], RUNTIME_ROOT / arguments[0])
