#!/usr/bin/python3 -IS
"""
Prepare a host for the server of one user: resource limits and a private runtime directory. Runs as root.

Both spawners use this module, so a user gets the same limits with either. The limits belong to the slice
``jupyterhub-UID.slice`` that holds everything the user runs through the hub, however many servers that is.

- The hub of SystemdSpawner runs as root and calls `prepare` before it starts the unit in that slice.
- The hub of SudoSpawner does not. There the PAM stack of its sudo rule runs this file (pam_exec), which also starts the
  unit for the server, and moves the sudo process into a scope that ends in time, whatever its user does.

With either the servers of a user share a /tmp and /var/tmp of their own, on the disk, which go with the last of them;
see `server_properties`.

Only the standard library is imported, and no site-packages are looked for: each start of a server waits for this
program.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

SETTINGS = Path("/etc/jupyterhub/settings.json")
RUNTIME_ROOT = Path("/run/jupyterhub-users")
KERBEROS = Path("/etc/krb5.conf")
# Written by role `homes` where homes are on a network file system; see its README.
HOMES = Path("/etc/campushub/homes.json")
# In the environment of the sudo that starts a server: bytes of memory and percent of a CPU core; 0 is as its user has.
SERVER_LIMITS = "CAMPUSHUB_SERVER_LIMITS"

# In the same environment: the number of the server's unit, which the hub knows so whatever the server's user does, and
# the seconds that the server has to end.
SERVER_UNIT = "CAMPUSHUB_SERVER_UNIT"
STOP_SECONDS = 10

# Actions of the mediator that start nothing ("stop" is one of former releases), and those of Slurm's own user, which
# has no server and no limits.
OF_NO_SERVER = ("stop", "cancel", "associate")
OF_SLURM = ("cancel", "associate")

# Seconds that an action of the mediator has, with what a home has to answer in addition: it runs as its user, who can
# stop it. The service manager ends it then. A busy host may take long to start a process or a unit, or to accept a job.
ACTION_SECONDS = {"spawn": 60.0, "submit": 120.0}
OTHER_SECONDS = 30.0
# After SIGTERM; how much longer the hub waits, for what root does before and after the action.
KILL_SECONDS = 2
SESSION_SECONDS = 100.0
# For how many seconds a start waits until the temporary files of the last server are removed, and between two looks.
REMOVAL_SECONDS, REMOVAL_INTERVAL = 30.0, 0.02


class Limits(TypedDict):
    """Limits of one user; None is unlimited."""

    memory: int | None  # bytes
    cpu: float | None  # cores
    tasks: int | None  # processes and threads


class GroupLimits(TypedDict, total=False):
    """Limits of the members of a Unix group; what is left out, or None, is as for everybody."""

    group: str
    memory: str | int | None
    cpu: float | None
    tasks: int | None


class Settings(TypedDict):
    """Settings of a session: traits of `CampusSpawner`, and the section of that name in settings.json."""

    user_memory_limit: str
    user_cpu_limit: float
    user_tasks_limit: int
    group_limits: list[GroupLimits]
    uid_minimum: int
    create_homes: bool
    tmp_directory: str


class Homes(TypedDict):
    """What role `homes` has written about homes on a network file system."""

    layout: str  # where they are; empty is where the account says
    mount_point: str  # homes below it count only while something is mounted there; empty is any
    check_timeout: float  # seconds
    on_unavailable: str  # "refuse" or "scratch"
    local_directory: str  # for what has to be on the host's own disk
    create_command: list[str]  # makes a missing home on the side of the storage; empty is none


def parse_size(size: str | int | None) -> int | None:
    """
    Return a size such as ``512M`` or ``1.5G`` (powers of 1024) in bytes; an empty one is unlimited.

    Raises ValueError for anything else.
    """
    if size is None or size == "":
        return None
    text = str(size)
    factor = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(text[-1])
    return int(float(text[:-1]) * factor) if factor else int(text)


def limits_of(groups: set[str], settings: Settings) -> Limits:
    """Return the limits of a member of these groups: the first entry of the list that fits, over the default."""
    entry = next((entry for entry in settings["group_limits"] if entry["group"] in groups), GroupLimits())
    memory, cpu, tasks = entry.get("memory"), entry.get("cpu"), entry.get("tasks")
    return Limits(
        memory=parse_size(settings["user_memory_limit"] if memory is None else memory),
        cpu=float(settings["user_cpu_limit"] if cpu is None else cpu) or None,
        tasks=int(settings["user_tasks_limit"] if tasks is None else tasks) or None,
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


def slice_name(uid: int) -> str:
    """Return the name of the slice for everything that a user runs through the hub."""
    return f"jupyterhub-{uid}.slice"


def runtime_directory(uid: int) -> Path:
    """Return the user's directory for sockets and connection files: private, on tmpfs, with a short path."""
    return RUNTIME_ROOT / str(uid)


def output_file(uid: int) -> Path:
    """Return the file with what the user's servers have printed lately; it and its directory are root's."""
    return RUNTIME_ROOT / f"{uid}.output"


def action_seconds(action: str, homes: Homes | None) -> float:
    """Return how long an action of the mediator may take."""
    return ACTION_SECONDS.get(action, OTHER_SECONDS) + (homes["check_timeout"] if homes else 0)


def time_limit(seconds: float) -> list[str]:
    """Return the options of systemd-run for what is ended after some seconds."""
    return [f"--property=RuntimeMaxSec={seconds:g}", f"--property=TimeoutStopSec={KILL_SECONDS}"]


def unit_name(uid: int, number: int) -> str:
    """Return the name of the unit of a server that `start_receiver` starts."""
    return f"jupyterhub-user-{uid}-{number}.service"


def write_output(account: pwd.struct_passwd, *matches: str) -> None:
    """
    Write what the journal has of a user's server, as pairs of process number and text, for the user alone.

    The hub of SudoSpawner cannot read the journal, and users their own part of it only where it is kept on the disk.
    """
    journalctl = ["/usr/bin/journalctl", "--quiet", "--no-pager"]
    # What was printed last may not have arrived.
    subprocess.run([*journalctl, "--sync"], check=False, timeout=10)
    command = [*journalctl, "--output=json", "--output-fields=_PID,MESSAGE", "--lines=200", *matches]
    printed = subprocess.run(command, check=True, capture_output=True, timeout=10).stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    # Text that is not UTF-8, or too long, is no text there.
    texts = [(int(line.get("_PID", 0)), line["MESSAGE"][:2000]) for line in lines if isinstance(line["MESSAGE"], str)]
    path = output_file(account.pw_uid)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
        json.dump(texts, file)
        os.chown(file.fileno(), account.pw_uid, account.pw_gid)


def limit_slice(uid: int, limits: Limits) -> None:
    """Set the limits of a user's slice; they hold at once for what already runs in it."""
    cpu = limits["cpu"]
    properties = {
        "MemoryMax": limits["memory"] or "infinity",
        # Memory beyond the limit must not come back as swap that slows everybody down.
        "MemorySwapMax": 0 if limits["memory"] else "infinity",
        "CPUQuota": f"{round(cpu * 100)}%" if cpu else "",
        "TasksMax": limits["tasks"] or "infinity",
        # Users see what they use; control groups of version 1 count it only where somebody asks for it.
        "CPUAccounting": "yes",
        "MemoryAccounting": "yes",
    }
    subprocess.run(
        ["/usr/bin/systemctl", "set-property", "--runtime", slice_name(uid)]
        + [f"{name}={value}" for name, value in properties.items()],
        check=True,
        # What else the hub has in its environment is no other program's business.
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )


def server_properties(uid: int, tmp_directory: str) -> dict[str, str]:
    """
    Return the properties of the unit of a server that keep its temporary files from other users, and from the next one.

    The directories are those of the unit jupyterhub-tmp@UID, which makes them for the first server and removes them
    after the last; see `user_tmp`. Shared memory is each server's own.
    """
    if not tmp_directory:
        return {}
    place, unit = f"/run/jupyterhub-tmp/{uid}", f"jupyterhub-tmp@{uid}.service"
    return {
        "Requires": unit,
        "After": unit,
        "BindPaths": f"{place}/tmp:/tmp {place}/var-tmp:/var/tmp",  # noqa: S108 (nothing is made there)
        "TemporaryFileSystem": "/dev/shm:mode=1777,nosuid,nodev,size=50%",  # noqa: S108
        "PrivateIPC": "yes",
    }


def is_being_removed(uid: int) -> bool:
    """Return whether the temporary files of the user's last server are about to be removed."""
    command = ["/usr/bin/systemctl", "show", "--property=ActiveState,Job", f"jupyterhub-tmp@{uid}.service"]
    shown = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout
    return bool(re.search(r"^(ActiveState=deactivating|Job=[1-9].*)$", shown, re.MULTILINE))


def wait_for_removal(uid: int) -> None:
    """
    Wait until the temporary files of the user's last server are removed.

    The service manager refuses to start what requires a unit that it is about to stop.
    """
    end = time.monotonic() + REMOVAL_SECONDS
    while time.monotonic() < end and is_being_removed(uid):
        time.sleep(REMOVAL_INTERVAL)


def numbers_of(sudo: int, name: str) -> list[int]:
    """Return the numbers that the hub says by a variable of sudo."""
    variables = Path(f"/proc/{sudo}/environ").read_bytes().split(b"\0")
    named = f"{name}=".encode()
    found = [variable.removeprefix(named) for variable in variables if variable.startswith(named)]
    return [int(word) for word in found[0].split()] if found else []


def server_limits(sudo: int) -> dict[str, str]:
    """
    Return the properties of a server's unit for what its user has chosen, as the hub says it.

    They lie within the user's own limits, which hold for the slice.
    """
    memory, percent = numbers_of(sudo, SERVER_LIMITS) or (0, 0)
    properties = {"MemoryMax": str(memory), "MemorySwapMax": "0"} if memory > 0 else {}
    return {**properties, "CPUQuota": f"{percent}%"} if percent > 0 else properties


def start_receiver(account: pwd.struct_passwd, sudo: int, tmp_directory: str) -> None:
    """
    Start the unit of a server for a sudo process; the mediator that this one is about to run says what the server is.

    A unit of its own, because a process that runs already cannot be given another /tmp.
    """
    uid = account.pw_uid
    number, patience = numbers_of(sudo, SERVER_UNIT)
    properties = {
        "Type": "exec",
        "OOMPolicy": "continue",
        # The server ends its kernels; what it leaves is killed after it, or after this time.
        "KillMode": "mixed",
        "TimeoutStopSec": f"{patience}s",
        "SyslogIdentifier": f"jupyterhub-user-{account.pw_name}",
        **server_properties(uid, tmp_directory),
        **server_limits(sudo),
    }
    command = ["/usr/bin/systemd-run", "--quiet", "--collect", f"--unit={unit_name(uid, number)}"]
    command += [f"--slice={slice_name(uid)}", f"--uid={uid}", f"--gid={account.pw_gid}"]
    command += [f"--property={name}={value}" for name, value in properties.items()]
    mediator = str(Path(__file__).with_name("campushub-mediator"))
    wait_for_removal(uid)
    subprocess.run([*command, "--", mediator, "receive", f"{runtime_directory(uid)}/spawn-{sudo}"], check=True)


def homes_of_site(document: Path = HOMES) -> Homes | None:
    """Return what the site says of homes on a network file system, or None if they are on the host's own disk."""
    try:
        homes: Homes = json.loads(document.read_text())
    except FileNotFoundError:
        return None
    return homes


def home_path(account: pwd.struct_passwd, homes: Homes) -> str:
    """Return where a user's home is."""
    name = account.pw_name
    return homes["layout"].replace("{first_letter}", name[0]).replace("{login}", name) or account.pw_dir


def kerberos_ccache(uid: int, settings: Path = KERBEROS) -> str:
    """Return where the host keeps a user's Kerberos ticket, as KRB5CCNAME says it, or nothing if nobody knows."""
    try:
        found = re.search(r"^\s*default_ccache_name\s*=\s*(\S+)\s*$", settings.read_text(), re.MULTILINE)
    except OSError:
        return ""
    name = found[1].replace("%{uid}", str(uid)) if found else ""
    return "" if "%{" in name else name


def local_directory(uid: int, homes: Homes) -> Path:
    """Return the user's own directory on the host's disk, which has what a network file system is no place for."""
    return Path(homes["local_directory"], str(uid))


def make_private_directory(directory: Path, account: pwd.struct_passwd) -> None:
    """Create a directory of the user's, 0700, in one that nobody but root can write."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Whatever the umask is: the hub's own hides everything.
    directory.parent.chmod(0o755)
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, account.pw_uid, account.pw_gid)


def make_home(account: pwd.struct_passwd, seconds: int = 60) -> None:
    """
    Make the user's home, closed to others, if it is missing.

    Raises subprocess.SubprocessError if that fails, or takes too long.
    """
    if os.path.isdir(account.pw_dir):
        return
    # The hub cannot see homes, so the service manager is asked to look, and to make what is missing.
    outside = ["/usr/bin/systemd-run", "--quiet", "--wait", "--collect", f"--property=RuntimeMaxSec={seconds}"]
    command = ["/usr/sbin/mkhomedir_helper", account.pw_name, "0077"]
    subprocess.run([*outside, *command], check=True, timeout=seconds + 5)


def make_network_home(account: pwd.struct_passwd, homes: Homes, seconds: int = 60) -> None:
    """
    Run the site's command that makes a user's missing home where the storage is; nobody can do that through a mount.

    Raises subprocess.SubprocessError if it fails, or takes too long.
    """
    known = {"login": account.pw_name, "uid": str(account.pw_uid), "home": home_path(account, homes)}
    command = [
        re.sub(r"{(login|uid|home)}", lambda match: known[match[1]], argument) for argument in homes["create_command"]
    ]
    outside = ["/usr/bin/systemd-run", "--quiet", "--wait", "--collect", f"--property=RuntimeMaxSec={seconds}", "--"]
    subprocess.run([*outside, *command], check=True, timeout=seconds + 5, stdin=subprocess.DEVNULL)


def move_into_scope(pid: int, scope: str, parent: str, seconds: float | None, deadline: float = 5.0) -> None:
    """
    Move the sudo process of a mediator, and so its future children, into a scope, which ends after the seconds given.

    Raises TimeoutError if the service manager has not done it within the deadline (seconds).
    """
    manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
    command = ["/usr/bin/busctl", "call", "--quiet", *manager, "StartTransientUnit", "ssa(sv)a(sa(sv))"]
    properties = [f"PIDs au 1 {pid}", f"Slice s {parent}", "CollectMode s inactive-or-failed"]
    if seconds:
        properties += [f"RuntimeMaxUSec t {seconds * 1e6:.0f}", f"TimeoutStopUSec t {KILL_SECONDS * 10**6}"]
    words = " ".join([str(len(properties)), *properties, "0"]).split()
    subprocess.run([*command, scope, "fail", *words], check=True)
    end = time.monotonic() + deadline
    while scope not in Path(f"/proc/{pid}/cgroup").read_text():
        if time.monotonic() > end:
            raise TimeoutError(f"{scope} was not started within {deadline} s")
        time.sleep(0.002)


def refuse_system_accounts(account: pwd.struct_passwd, settings: Settings) -> None:
    """Raise PermissionError for an account that belongs to no person."""
    if account.pw_uid < settings["uid_minimum"]:
        raise PermissionError(f"{account.pw_name} has UID {account.pw_uid}, below {settings['uid_minimum']}: no server")


def prepare(account: pwd.struct_passwd, limits: Limits, settings: Settings) -> None:
    """
    Set a user's limits and create their own directories and, with `create_homes`, their home. Only root can.

    Raises PermissionError for an account of the system, and OSError or subprocess.SubprocessError.
    """
    make_directories(account, settings)
    limit_slice(account.pw_uid, limits)


def make_directories(account: pwd.struct_passwd, settings: Settings) -> None:
    """Create a user's own directories and, with `create_homes`, their home. Raises as `prepare` does."""
    refuse_system_accounts(account, settings)
    make_private_directory(runtime_directory(account.pw_uid), account)
    homes = homes_of_site()
    if homes:
        # Root does not touch the home: it has no rights there, and storage that hangs would block it.
        make_private_directory(local_directory(account.pw_uid, homes), account)
    elif settings["create_homes"]:
        make_home(account)


def last_argument(pid: int) -> str:
    """Return the last argument of a process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").rpartition(b"\0")[2].decode(errors="replace")


def main(environment: dict[str, str]) -> int:
    """Prepare the session of the user named by PAM."""
    if environment["PAM_TYPE"] != "open_session":
        return 0
    account = pwd.getpwnam(environment["PAM_USER"])
    settings: Settings = json.loads(SETTINGS.read_text())["CampusSpawner"]
    try:
        action = last_argument(os.getppid())
        # It may be an account of the system.
        if not (account.pw_name == "slurm" and action in OF_SLURM):
            refuse_system_accounts(account, settings)
        # The server of a user who has used up all their processes can still be stopped: that runs outside the limits.
        if action not in OF_NO_SERVER:
            prepare(account, limits_of(groups_of(account), settings), settings)
        # The hub of a former release, which runs on until the end of an upgrade, names no unit. Its mediator becomes
        # the server, and stays where it is.
        becomes_server = action == "spawn" and not numbers_of(os.getppid(), SERVER_UNIT)
        if action == "spawn" and not becomes_server:
            # A document of the release before has no such setting while an upgrade is under way.
            start_receiver(account, os.getppid(), settings.get("tmp_directory", ""))
        if action == "explain":
            # The mediator reads it next.
            identifier = f"--identifier=jupyterhub-user-{account.pw_name}"
            with contextlib.suppress(subprocess.SubprocessError):
                write_output(account, "--since=-15min", identifier, f"_UID={account.pw_uid}")
        homes = homes_of_site()
        if action == "create-home" and homes:
            # The mediator probes the home next.
            with contextlib.suppress(subprocess.SubprocessError):
                make_network_home(account, homes)
        # Last, for from now on its time counts. What the hub waits for is no part of what its user may run.
        outside = action in ("spawn", *OF_NO_SERVER) and not becomes_server
        parent = "system.slice" if outside else slice_name(account.pw_uid)
        # Other programs find servers by the names of their units.
        kind, seconds = ("user", None) if becomes_server else ("mediator", action_seconds(action, homes))
        scope = f"jupyterhub-{kind}-{account.pw_uid}-{os.getppid()}.scope"
        move_into_scope(os.getppid(), scope, parent, seconds)
    except PermissionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # pam_exec passes on the environment and the umask of its caller.
    caller = dict(os.environ)
    os.environ.clear()
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    os.umask(0o022)
    sys.exit(main(caller))
