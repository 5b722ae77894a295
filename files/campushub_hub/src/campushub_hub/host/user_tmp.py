#!/usr/bin/python3 -I
"""
Make or remove the temporary directories that the servers of one user share. Runs as root.

``campushub-user-tmp make DIRECTORY UID`` and ``remove`` are the start and the end of the unit jupyterhub-tmp@UID. The
units of the user's servers require it: the service manager starts it for the first of them and stops it after the last.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUNTIME_ROOT = Path("/run/jupyterhub-users")
# The hub publishes it before the first server starts.
TOKEN = "oauth2_token"  # noqa: S105 (the name of a file)


def delete(*paths: Path) -> None:
    """Delete files and directories, with whatever their user has put into them."""
    # A program of its own, because users can make directories that are deeper than Python can go.
    subprocess.run(["/bin/rm", "-rf", "--one-file-system", "--", *map(str, paths)], check=False)


def make(place: Path) -> None:
    """Make the directories: as open as those of the host, in one that nobody but root can enter."""
    # A host that went down has left them.
    delete(place)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.mkdir(mode=0o700)
    for name in ("tmp", "var-tmp"):
        (place / name).mkdir()
        (place / name).chmod(0o1777)


def runs_anything(uid: str) -> bool:
    """Return whether anything of the user's still runs, such as a server that a former release has started."""
    command = ["/usr/bin/systemctl", "show", "--value", "--property=TasksCurrent", f"jupyterhub-{uid}.slice"]
    shown = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout
    return shown.strip() not in ("", "0", "[not set]")


def remove(place: Path, uid: str, runtime_root: Path = RUNTIME_ROOT) -> None:
    """Remove the directories, and what is left in the user's runtime directory, which is in memory."""
    delete(place)
    runtime = runtime_root / uid
    if runtime.is_dir() and not runs_anything(uid):
        delete(*(path for path in runtime.iterdir() if path.name != TOKEN))


if __name__ == "__main__":
    action, directory, user = sys.argv[1:]
    if action == "make":
        make(Path(directory, user))
    else:
        remove(Path(directory, user), user)
