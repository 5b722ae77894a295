"""The state of the hub as one file, and back."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DOCUMENTATION = r"""
module: hub_archive
short_description: Put the state of the hub into one file, or take it from there
description:
  - The file has the hub's database as it is at one moment, its secrets and its configuration, and is readable by
    root only. The hub may be at work while it is made.
  - An SQLite database is copied by SQLite itself, one on PostgreSQL by C(pg_dump) and C(pg_restore).
  - For O(state=restored) the hub must be stopped. Files that were there before are kept beside it, with
    C(.before-restore) at the end of the name, or in C(.campushub-before-restore) where a file system is mounted there.
    What was in a database on PostgreSQL is not kept.
options:
  path:
    description: The file, a compressed tar.
    type: path
    required: true
  state:
    description:
      - Whether to make the file or to put back what is in it.
      - With V(compared) nothing is changed; RV(lost) says which servers a hub that is restored would not know.
    type: str
    choices: [created, restored, compared]
    default: created
  configuration:
    description: Directory of configuration and secrets.
    type: path
    default: /etc/jupyterhub
  data:
    description: Directory of the database.
    type: path
    default: /var/lib/jupyterhub
"""

EXAMPLES = r"""
- name: Put the state of the hub into one file
  hub_archive:
    path: /var/lib/jupyterhub/.backup.tar.gz
"""

RETURN = r"""
manifest:
  description: What is in the file.
  returned: success
  type: dict
size:
  description: Bytes of the file.
  returned: success
  type: int
kept:
  description: Directories with what was there before.
  returned: with O(state=restored)
  type: list
  elements: str
lost:
  description: Users' servers that were started after the file was made, as people know them.
  returned: with O(state=compared)
  type: list
  elements: str
"""

FORMAT = 1
MANIFEST = "campushub.json"
DUMP = "postgresql.dump"
SQLITE = "jupyterhub.sqlite"
# How names of unfinished files begin, and of what belongs to this host.
OURS = ".campushub-"
# What is in a mount, while a restore replaces it.
ASIDE = f"{OURS}being-replaced"
TIME = "%Y-%m-%dT%H:%M:%S%z"
SLURM = Path("/etc/slurm/slurm.conf")
# In the hub's directory of data, the name of its jobs (campushub_hub/spawners/cluster.py).
JOB_NAME = "slurm_job_name"


class ArchiveError(Exception):
    """A reason, for people, why it cannot be done."""


def database_url(configuration: Path) -> str:
    """URL of a database server without the name of SQLAlchemy's driver, or nothing for SQLite."""
    file = configuration / "database_url"
    url = ""
    if file.is_file():
        lines = [line.strip() for line in file.read_text().splitlines()]
        url = next((line for line in lines if line and not line.startswith("#")), "")
    scheme, separator, rest = url.partition("://")
    kind = scheme.partition("+")[0]
    if not separator or kind == "sqlite":
        return ""
    if kind not in ("postgresql", "postgres"):
        raise ArchiveError(f"The database is {kind}; only SQLite and PostgreSQL can be saved and restored from here.")
    return f"postgresql://{rest}"


def without_password(url: str) -> tuple[str, str]:
    """Split a database's URL into one without the password, and the password."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    login, at, server = place.rpartition("@")
    user, _, password = login.partition(":")
    return f"{scheme}://{user}{at}{server}{slash}{path}", unquote(password)


def postgresql(program: str, server: str, *arguments: str) -> None:
    """Run a program of PostgreSQL's on a database; its complaint is the reason."""
    if not shutil.which(program):
        raise ArchiveError(f"{program} is missing on this host: apt-get install postgresql-client")
    # Other users of the host see arguments, but not the environment.
    address, password = without_password(server)
    environment = {**os.environ, **({"PGPASSWORD": password} if password else {})}
    command = [program, f"--dbname={address}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ArchiveError(f"{program} failed: {done.stderr.strip() or done.returncode}")


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database that may be written at this moment, and check the copy."""
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        verdict = new.execute("PRAGMA integrity_check").fetchone()[0]
    if verdict != "ok":
        raise ArchiveError(f"The database {source} is damaged: {verdict}")
    state = source.stat()
    os.chown(target, state.st_uid, state.st_gid)
    target.chmod(state.st_mode & 0o777)


def is_state(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what belongs to a moment: other copies of the database, sockets, our own unfinished files."""
    name = Path(info.name).name
    if not (info.isfile() or info.isdir() or info.issym()):
        return None
    return None if SQLITE in name or name.startswith(OURS) else info


def create(path: Path, configuration: Path, data: Path) -> dict[str, Any]:
    """Write the archive next to where it will be and rename it when it is whole."""
    if not configuration.is_dir():
        raise ArchiveError(f"There is no {configuration} on this host, so there is no hub to save.")
    server = database_url(configuration)
    manifest = {
        "format": FORMAT,
        "host": socket.gethostname(),
        "made": time.strftime(TIME),
        "database": "postgresql" if server else "sqlite",
    }
    # Of a link the archive would have only where it leads.
    configuration, data = configuration.resolve(), data.resolve()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=OURS) as directory:
        scratch = Path(directory)
        whole = scratch / "archive"
        whole.touch(mode=0o600)
        with tarfile.open(whole, "w:gz") as archive:
            text = json.dumps(manifest).encode()
            info = tarfile.TarInfo(MANIFEST)
            info.size, info.mode, info.mtime = len(text), 0o600, int(time.time())
            archive.addfile(info, io.BytesIO(text))
            archive.add(configuration, "configuration", filter=is_state)
            archive.add(data, "data", filter=is_state)
            if server:
                postgresql("pg_dump", server, "--format=custom", f"--file={scratch / DUMP}")
                archive.add(scratch / DUMP, DUMP)
            elif (data / SQLITE).exists():
                copy_sqlite(data / SQLITE, scratch / SQLITE)
                archive.add(scratch / SQLITE, f"data/{SQLITE}")
        whole.replace(path)
    return manifest


def read_manifest(archive: tarfile.TarFile) -> dict[str, Any]:
    """What an archive says about itself."""
    try:
        member = archive.extractfile(MANIFEST)
        manifest: dict[str, Any] = json.load(member) if member else {}
    except (KeyError, ValueError):
        manifest = {}
    if manifest.get("format") != FORMAT:
        raise ArchiveError("The file is no backup of CampusHub, or one of a newer version.")
    return manifest


def is_mount(place: Path) -> bool:
    """Whether something is mounted there; a directory of the same file system (mount --bind) counts, too."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return str(place) in (fields[4] for fields in mounts)


def move(source: Path, target: Path, undo: list[Callable[[], Any]]) -> None:
    """Rename, and note what undoes it."""
    source.rename(target)
    undo.append(lambda: target.rename(source))


def give(place: Path, owner: int, group: int, mode: int, undo: list[Callable[[], Any]]) -> None:
    """Set who has a directory, and note what undoes it."""
    before = place.stat()
    os.chown(place, owner, group)
    place.chmod(mode)

    def give_back() -> None:
        os.chown(place, before.st_uid, before.st_gid)
        place.chmod(before.st_mode & 0o7777)

    undo.append(give_back)


def kept_place(place: Path) -> Path:
    """Where that goes which a restore replaces."""
    return place / ".campushub-before-restore" if is_mount(place) else place.with_name(f"{place.name}.before-restore")


def older_place(place: Path) -> Path:
    """Where that is meanwhile which the restore before has replaced."""
    kept = kept_place(place)
    return kept.with_name(f"{kept.name}.old")


def undo_cut_off(place: Path) -> None:
    """Put back what a restore has replaced that was cut off: nobody else has it."""
    aside = place / ASIDE
    # The user of the hub could have put a link there, or a directory of its own.
    if aside.is_dir() and not aside.is_symlink() and aside.stat().st_uid == os.getuid():
        for entry in aside.iterdir():
            new = place / entry.name
            if new.is_dir() and not new.is_symlink():
                shutil.rmtree(new)
            entry.rename(new)
        aside.rmdir()
    elif not place.exists() and kept_place(place).exists():
        kept_place(place).rename(place)


def replace(place: Path, new: Path, undo: list[Callable[[], Any]]) -> None:
    """Put a directory in the place of another, which is kept."""
    kept = kept_place(place)
    if kept.exists():
        shutil.rmtree(older_place(place), ignore_errors=True)
        move(kept, older_place(place), undo)
    if is_mount(place):
        replace_entries(place, new, kept, undo)
    else:
        if place.exists():
            move(place, kept, undo)
        move(new, place, undo)


def replace_entries(place: Path, new: Path, kept: Path, undo: list[Callable[[], Any]]) -> None:
    """Exchange what is in a directory, which itself cannot be renamed."""
    aside = place / ASIDE
    aside.mkdir(mode=0o700)
    undo.append(aside.rmdir)
    for entry in sorted(place.iterdir()):
        if entry.name != "lost+found" and not entry.name.startswith(OURS):
            move(entry, aside / entry.name, undo)
    for entry in sorted(new.iterdir()):
        move(entry, place / entry.name, undo)
    state = new.stat()
    give(place, state.st_uid, state.st_gid, state.st_mode & 0o7777, undo)
    move(aside, kept, undo)


def restore_postgresql(server: str, dump: Path) -> None:
    """Put a dump in the place of what is in the database."""
    if not server:
        raise ArchiveError("The backup is of a PostgreSQL database, but no URL of one is known here.")
    # All of it or nothing: a restore that fails leaves the database as it was.
    postgresql("pg_restore", server, "--clean", "--if-exists", "--no-owner", "--single-transaction", str(dump))


def make_staging(place: Path, undo: list[Callable[[], Any]]) -> Path:
    """Make a directory from which files can be renamed into a place."""
    if not is_mount(place):
        return Path(tempfile.mkdtemp(dir=place.parent, prefix=OURS))
    # As long as this works the place is root's: the user of the hub could put a link in the way of what is unpacked.
    give(place, os.getuid(), os.getgid(), 0o700, undo)
    return Path(tempfile.mkdtemp(dir=place, prefix=OURS))


def unpack(archive: tarfile.TarFile, staging: Mapping[str, Path]) -> None:
    """Put what an archive has of each place into its directory, and the dump of a database into that of the data."""
    # Owners and modes are part of the state; newer Pythons would leave them out.
    archive.extraction_filter = lambda member, _: member
    for member in archive:
        top = member.name.split("/")[0]
        if member.name in staging and not member.isdir():
            raise ArchiveError(f"It has a link in the place of {member.name}, and not what the link leads to.")
        safe = ".." not in member.name.split("/") and not member.name.startswith("/")
        if safe and top in staging:
            archive.extract(member, staging[top])
        elif member.name == DUMP:
            archive.extract(member, staging["data"])


def restore(path: Path, configuration: Path, data: Path) -> dict[str, Any]:
    """Unpack everything beside its place first, so that a broken archive changes nothing."""
    try:
        archive = tarfile.open(path)  # noqa: SIM115 (closed below)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArchiveError(f"The backup cannot be read: {error}") from error
    undo: list[Callable[[], Any]] = []
    staging: dict[str, Path] = {}
    # A link stays, and what it leads to is replaced.
    places = {"configuration": configuration.resolve(), "data": data.resolve()}
    try:
        for name, place in places.items():
            staging[name] = make_staging(place, undo)
            undo_cut_off(place)
        with archive:
            manifest = read_manifest(archive)
            unpack(archive, staging)
        for name, place in places.items():
            replace(place, staging[name] / name, undo)
        if manifest["database"] == "postgresql":
            restore_postgresql(database_url(configuration), staging["data"] / DUMP)
    except (ArchiveError, tarfile.TarError, OSError, EOFError) as error:
        for step in reversed(undo):
            step()
        reason = str(error).rstrip(".")
        raise ArchiveError(f"The backup could not be put in place, and nothing was changed: {reason}.") from error
    finally:
        for directory in staging.values():
            shutil.rmtree(directory, ignore_errors=True)
    for place in places.values():
        shutil.rmtree(older_place(place), ignore_errors=True)
    return manifest


def younger_units(since: float) -> list[str]:
    """Return the servers on this host that were started after a time."""
    properties = "--property=Id,ActiveState,InactiveExitTimestampMonotonic"
    command = ["systemctl", "show", properties, "jupyterhub-user-*.service", "jupyterhub-user-*.scope"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = []
    for block in shown.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        age = time.monotonic() - int(unit.get("InactiveExitTimestampMonotonic") or 0) / 1e6
        if unit.get("ActiveState") in ("active", "activating", "reloading") and time.time() - age > since:
            found.append(unit["Id"])
    return sorted(found)


def job_name(text: bytes) -> str:
    """Return the name of a hub's jobs that a file has, or nothing."""
    found = re.fullmatch(rb"([A-Za-z0-9_.-]+)\n?", text)
    return found[1].decode() if found else ""


def job_names(archive: tarfile.TarFile, data: Path) -> list[str]:
    """Return the names of the jobs of the hub on this host, and of the one that is restored."""
    here = data / JOB_NAME
    name = job_name(here.read_bytes()) if here.exists() else ""
    names = {name or f"campushub-{socket.gethostname().partition('.')[0]}"}
    if f"data/{JOB_NAME}" in archive.getnames() and (saved := archive.extractfile(f"data/{JOB_NAME}")):
        names.add(job_name(saved.read()))
    return sorted(filter(None, names))


def younger_jobs(since: float, names: list[str]) -> list[str]:
    """Return the servers in a cluster, those that wait included, that were submitted after a time."""
    if not SLURM.exists() or not shutil.which("squeue"):
        return []
    command = ["squeue", "--noheader", f"--name={','.join(names)}", "--format=%u %i %V"]
    environment = {**os.environ, "SLURM_TIME_FORMAT": "%s"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"jobs that Slurm does not name now ({done.stderr.strip() or done.returncode})"]
    jobs = [line.split() for line in done.stdout.splitlines() if line.strip()]
    return [f"job {number} of {user}" for user, number, submitted in jobs if float(submitted) > since]


def lost_servers(path: Path, data: Path) -> list[str]:
    """Return the servers that a hub which is restored would not know."""
    try:
        with tarfile.open(path) as archive:
            made = dt.datetime.strptime(read_manifest(archive)["made"], TIME)  # noqa: DTZ007 (with a zone)
            names = job_names(archive, data)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArchiveError(f"The backup cannot be read: {error}") from error
    return younger_units(made.timestamp()) + younger_jobs(made.timestamp(), names)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["created", "restored", "compared"], "default": "created"},
            "configuration": {"type": "path", "default": "/etc/jupyterhub"},
            "data": {"type": "path", "default": "/var/lib/jupyterhub"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    path = Path(parameters["path"])
    state = parameters["state"]
    if module.check_mode:
        module.exit_json(changed=state != "compared", manifest={}, size=0, kept=[], lost=[])
    os.umask(0o077)
    try:
        if state == "compared":
            module.exit_json(changed=False, lost=lost_servers(path, Path(parameters["data"])))
        places = [Path(parameters[name]).resolve() for name in ("configuration", "data")]
        work = create if state == "created" else restore
        manifest = work(path, *places)
        kept = [str(kept_place(place)) for place in places if state == "restored" and kept_place(place).exists()]
    except ArchiveError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, manifest=manifest, size=path.stat().st_size, kept=kept)


if __name__ == "__main__":
    main()
