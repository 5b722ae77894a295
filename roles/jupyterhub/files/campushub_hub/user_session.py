#!/usr/bin/python3 -I
"""
Prepare a host for the server of one user: resource limits and a private runtime directory. Runs as root.

Both spawners come through here, so a user gets the same limits under either. The limits belong to the slice
``jupyterhub-UID.slice`` that holds everything the user runs through the hub, however many servers that is.

- SystemdSpawner's hub is root and calls `prepare` before it starts the unit in that slice.
- SudoSpawner's hub is not. There the PAM stack of its sudo rule runs this file (pam_exec), which also moves the
  sudo process, and with it the server to come, into a scope of the slice.

Only the standard library: this is on the path of each server start.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

SETTINGS = Path("/etc/jupyterhub/settings.json")
RUNTIME_ROOT = Path("/run/jupyterhub-users")


class Limits(TypedDict):
    """Limits of one user; None is unlimited."""

    memory: int | None  # bytes
    cpu: float | None  # cores
    tasks: int | None  # processes and threads


def bytes_of(size: str | int | None) -> int | None:
    """
    Return a size such as ``512M`` or ``1.5G`` (powers of 1024) in bytes; an empty one is unlimited.

    Raises ValueError for anything else.
    """
    if size is None or size == "":
        return None
    text = str(size)
    factor = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(text[-1])
    return int(float(text[:-1]) * factor) if factor else int(text)


def limits_of(groups: set[str], settings: dict[str, Any]) -> Limits:
    """Return the limits of a member of these groups: the first entry of the list that fits, over the default."""
    chosen = dict(settings["limits"])
    for entry in settings["group_limits"]:
        if entry["group"] in groups:
            chosen.update({key: value for key, value in entry.items() if key != "group" and value is not None})
            break
    return Limits(
        memory=bytes_of(chosen["memory"]),
        cpu=float(chosen["cpu"]) or None,
        tasks=int(chosen["tasks"]) or None,
    )


def groups_of(account: pwd.struct_passwd) -> set[str]:
    """Return the names of all Unix groups of an account."""
    names = set()
    for gid in os.getgrouplist(account.pw_name, account.pw_gid):
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return names


def slice_of(uid: int) -> str:
    """Return the name of the slice for everything that a user runs through the hub."""
    return f"jupyterhub-{uid}.slice"


def runtime_directory(uid: int) -> Path:
    """Return the user's directory for sockets and connection files: private, on tmpfs, with a short path."""
    return RUNTIME_ROOT / str(uid)


def limit_slice(uid: int, limits: Limits) -> None:
    """Set the limits of a user's slice; they hold at once for what already runs in it."""
    cpu = limits["cpu"]
    properties = {
        "MemoryMax": limits["memory"] or "infinity",
        # Memory beyond the limit must not come back as swap that slows everybody down.
        "MemorySwapMax": 0 if limits["memory"] else "infinity",
        "CPUQuota": f"{round(cpu * 100)}%" if cpu else "",
        "TasksMax": limits["tasks"] or "infinity",
    }
    subprocess.run(
        ["/usr/bin/systemctl", "set-property", "--runtime", slice_of(uid)]
        + [f"{name}={value}" for name, value in properties.items()],
        check=True,
        # What else the hub has in its environment is no other program's business.
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )


def make_runtime_directory(account: pwd.struct_passwd) -> None:
    """Create the user's runtime directory, 0700, in one that nobody but root can write."""
    RUNTIME_ROOT.mkdir(exist_ok=True)
    # Whatever the umask is: the hub's own hides everything.
    RUNTIME_ROOT.chmod(0o755)
    directory = runtime_directory(account.pw_uid)
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, account.pw_uid, account.pw_gid)


def make_home(account: pwd.struct_passwd) -> None:
    """Make the user's home, closed to others, if it is missing."""
    if os.path.isdir(account.pw_dir):
        return
    # The hub cannot see homes, so the service manager is asked to look, and to make what is missing.
    outside = ["/usr/bin/systemd-run", "--quiet", "--wait", "--collect"]
    subprocess.run([*outside, "/usr/sbin/mkhomedir_helper", account.pw_name, "0077"], check=True)


def move_into_scope(pid: int, uid: int, deadline: float = 5.0) -> None:
    """
    Move a process, and so its future children, into a scope of the user's slice.

    Raises TimeoutError if the service manager has not done it within the deadline (seconds).
    """
    manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
    command = ["/usr/bin/busctl", "call", "--quiet", *manager, "StartTransientUnit", "ssa(sv)a(sa(sv))"]
    properties = ["PIDs", "au", "1", str(pid), "Slice", "s", slice_of(uid), "CollectMode", "s", "inactive-or-failed"]
    # A kernel that is killed for its memory must not take the whole scope, and so the server, with it.
    scope = f"jupyterhub-user-{uid}-{pid}.scope"
    surviving = [*command, scope, "fail", "4", *properties, "OOMPolicy", "s", "continue", "0"]
    if subprocess.run(surviving, check=False, capture_output=True).returncode:
        # Service managers that do not know the property do not end scopes for it either; the name is spent.
        scope = f"jupyterhub-user-{uid}-{pid}-0.scope"
        subprocess.run([*command, scope, "fail", "3", *properties, "0"], check=True)
    end = time.monotonic() + deadline
    while scope not in Path(f"/proc/{pid}/cgroup").read_text():
        if time.monotonic() > end:
            raise TimeoutError(f"{scope} was not started within {deadline} s")
        time.sleep(0.002)


def refuse_system_accounts(account: pwd.struct_passwd, settings: dict[str, Any]) -> None:
    """Raise PermissionError for an account that belongs to no person."""
    if account.pw_uid < settings["uid_minimum"]:
        raise PermissionError(f"{account.pw_name} has UID {account.pw_uid}, below {settings['uid_minimum']}: no server")


def prepare(account: pwd.struct_passwd, limits: Limits, settings: dict[str, Any]) -> None:
    """
    Set a user's limits and make their runtime directory and, where that is wanted, their home. Only root can.

    Raises PermissionError for an account of the system, and OSError or subprocess.SubprocessError.
    """
    refuse_system_accounts(account, settings)
    limit_slice(account.pw_uid, limits)
    make_runtime_directory(account)
    if settings["create_homes"]:
        make_home(account)


def last_word(pid: int) -> str:
    """Return the last word of a process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").rpartition(b"\0")[2].decode(errors="replace")


def main(environment: dict[str, str]) -> int:
    """Prepare the session of the user that PAM names."""
    if environment["PAM_TYPE"] != "open_session":
        return 0
    account = pwd.getpwnam(environment["PAM_USER"])
    settings = json.loads(SETTINGS.read_text())
    try:
        refuse_system_accounts(account, settings)
        # Whoever has used up all processes must still be stopped, so that does not happen among them.
        if last_word(os.getppid()) != "stop":
            prepare(account, limits_of(groups_of(account), settings), settings)
            move_into_scope(os.getppid(), account.pw_uid)
    except PermissionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # pam_exec hands over whatever environment and umask its caller has.
    caller = dict(os.environ)
    os.environ.clear()
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    os.umask(0o022)
    sys.exit(main(caller))
