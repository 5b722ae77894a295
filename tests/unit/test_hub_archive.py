"""The hub's state goes into one file and comes back, with real databases and at work."""

from __future__ import annotations

import io
import os
import runpy
import shutil
import socket
import sqlite3
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.modules import hub_archive

ROOT = Path(__file__).resolve().parents[2]


class Hub:
    """The directories of a hub and a database with some users."""

    def __init__(self, directory: Path) -> None:
        self.configuration = directory / "etc/jupyterhub"
        self.data = directory / "lib/jupyterhub"
        self.backup = directory / "backup.tar.gz"
        (self.configuration / "secrets").mkdir(parents=True)
        (self.configuration / "secrets").chmod(0o700)
        (self.configuration / "secrets/hub.env").write_text("JPY_COOKIE_SECRET=old\n")
        (self.configuration / "secrets/hub.env").chmod(0o600)
        self.data.mkdir(parents=True)
        self.database = self.data / "jupyterhub.sqlite"
        self.write("CREATE TABLE users (name TEXT)")
        self.write("INSERT INTO users VALUES ('alice')")

    def write(self, statement: str) -> None:
        with sqlite3.connect(self.database) as connection:
            connection.execute(statement)
        connection.close()

    def users(self) -> list[str]:
        with sqlite3.connect(self.database) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM users ORDER BY name")]
        connection.close()
        return names

    def save(self, url: str = "") -> dict[str, Any]:
        if url:
            (self.configuration / "database_url").write_text(f"{url}\n")
        manifest: dict[str, Any] = hub_archive.create(self.backup, self.configuration, self.data)
        return manifest

    def put_back(self) -> None:
        hub_archive.restore(self.backup, self.configuration, self.data)


def contents_of(backup: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(backup) as archive:
        members = [(info, archive.extractfile(info)) for info in archive]
        return [(info, member.read() if member else b"") for info, member in members]


def write_archive(backup: Path, contents: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(backup, "w:gz") as archive:
        for info, content in contents:
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def test_everything_comes_back_with_its_modes(hub: Hub) -> None:
    hub.save()
    hub.write("DELETE FROM users")
    (hub.configuration / "secrets/hub.env").write_text("JPY_COOKIE_SECRET=new\n")
    hub.put_back()
    assert hub.users() == ["alice"]
    assert (hub.configuration / "secrets/hub.env").read_text() == "JPY_COOKIE_SECRET=old\n"
    assert (hub.configuration / "secrets/hub.env").stat().st_mode & 0o777 == 0o600
    assert (hub.configuration / "secrets").stat().st_mode & 0o777 == 0o700


def test_what_was_there_before_is_kept(hub: Hub) -> None:
    hub.save()
    hub.write("INSERT INTO users VALUES ('bob')")
    hub.put_back()
    kept = sqlite3.connect(hub.data.with_name("jupyterhub.before-restore") / "jupyterhub.sqlite")
    assert [row[0] for row in kept.execute("SELECT name FROM users ORDER BY name")] == ["alice", "bob"]
    kept.close()


def cut_off(hub: Hub, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Begin a restore, and lose the power at one of its steps, after which nothing is undone."""
    moved = hub_archive.move

    def move(source: Path, target: Path, undo: list[Any]) -> None:
        nonlocal step
        step -= 1
        if step == 0:
            raise SystemExit
        moved(source, target, undo)

    with monkeypatch.context() as cut:
        cut.setattr(hub_archive, "move", move)
        with pytest.raises(SystemExit):
            hub.put_back()


@pytest.mark.chaos
@pytest.mark.parametrize("step", range(1, 5))
def test_a_restore_that_is_cut_off_loses_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Of configuration and data one is moved away and another comes; the next restore keeps what there was."""
    hub.save()
    hub.write("INSERT INTO users VALUES ('bob')")
    cut_off(hub, monkeypatch, step)
    hub.put_back()
    assert hub.users() == ["alice"]
    places = [hub.data.with_name(f"jupyterhub.before-restore{end}") for end in ("", ".old")]
    assert [path.exists() for path in places] == [True, False]
    kept = sqlite3.connect(places[0] / "jupyterhub.sqlite")
    assert [row[0] for row in kept.execute("SELECT name FROM users ORDER BY name")] == ["alice", "bob"]
    kept.close()


@pytest.mark.chaos
@pytest.mark.parametrize("step", [3, 4, 5])
def test_a_restore_of_a_mount_that_is_cut_off_loses_nothing(
    mounted: Hub, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    mounted.save()
    mounted.write("INSERT INTO users VALUES ('bob')")
    cut_off(mounted, monkeypatch, step)
    mounted.put_back()
    assert mounted.users() == ["alice"]
    assert [path.name for path in mounted.data.iterdir() if path.name.startswith(".")] == [".campushub-before-restore"]
    kept = sqlite3.connect(mounted.data / ".campushub-before-restore/jupyterhub.sqlite")
    assert [row[0] for row in kept.execute("SELECT name FROM users ORDER BY name")] == ["alice", "bob"]
    kept.close()


@pytest.mark.attack
@pytest.mark.parametrize("made", ["link", "directory"])
def test_what_others_put_aside_in_a_mount_is_not_put_back(mounted: Hub, tmp_path: Path, made: str) -> None:
    mounted.save()
    aside, elsewhere = mounted.data / hub_archive.ASIDE, tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "passwd").write_text("of the host")
    if made == "link":
        aside.symlink_to(elsewhere)
    else:
        shutil.copytree(elsewhere, aside)
        os.chown(aside, 1234, 1234)
    with pytest.raises(hub_archive.ArchiveError, match="nothing was changed"):
        mounted.put_back()
    assert mounted.users() == ["alice"]
    assert (elsewhere / "passwd").exists()
    assert not (mounted.data / "passwd").exists()


def test_a_link_stays_and_what_it_leads_to_comes_back(hub: Hub) -> None:
    real = hub.data.parent / "elsewhere"
    hub.data.rename(real)
    hub.data.symlink_to(real)
    (hub.data / "notes").write_text("old")
    hub.save()
    with tarfile.open(hub.backup) as archive:
        assert archive.getmember("data").isdir()
        assert "data/notes" in archive.getnames()
    hub.write("DELETE FROM users")
    hub.put_back()
    assert hub.data.readlink() == real
    assert hub.users() == ["alice"]
    assert (real.with_name("elsewhere.before-restore") / "jupyterhub.sqlite").exists()


def test_a_backup_of_a_link_alone_changes_nothing(hub: Hub) -> None:
    """As former releases made it."""
    hub.save()
    contents = contents_of(hub.backup)
    for info, _ in contents:
        if info.name == "data":
            info.type, info.linkname = tarfile.SYMTYPE, str(hub.data)
    write_archive(hub.backup, contents)
    assert refused(hub).endswith(": It has a link in the place of data, and not what the link leads to.")


@pytest.fixture(params=["a file system", "a directory of the same one"])
def mounted(hub: Hub, request: pytest.FixtureRequest) -> Iterator[Hub]:
    """A hub whose database is on something that is mounted."""
    if os.getuid() != 0:
        pytest.skip("only root can mount")
    source = hub.data.with_name("source")
    shutil.copytree(hub.data, source)
    options = ["-t", "tmpfs", "none"] if request.param == "a file system" else ["--bind", source]
    subprocess.run(["mount", *options, hub.data], check=True)
    if request.param == "a file system":
        shutil.copytree(source, hub.data, dirs_exist_ok=True)
    os.chown(hub.data, 1234, 1234)
    hub.data.chmod(0o750)
    yield hub
    subprocess.run(["umount", hub.data], check=True)


def test_where_something_is_mounted_its_content_is_replaced(mounted: Hub) -> None:
    (mounted.data / ".campushub-reserve").write_text("of this host")
    mounted.save()
    mounted.write("INSERT INTO users VALUES ('bob')")
    for _ in range(2):
        mounted.put_back()
        assert mounted.users() == ["alice"]
    names = sorted(path.name for path in mounted.data.iterdir())
    assert names == [".campushub-before-restore", ".campushub-reserve", "jupyterhub.sqlite"]
    assert (mounted.data.stat().st_uid, mounted.data.stat().st_mode & 0o777) == (1234, 0o750)
    assert (mounted.data / ".campushub-before-restore").stat().st_mode & 0o777 == 0o700
    mounted.save()
    with tarfile.open(mounted.backup) as archive:
        assert not [name for name in archive.getnames() if "before-restore" in name]


def test_a_restore_that_fails_leaves_a_mount_as_it_was(mounted: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise hub_archive.ArchiveError("no database")

    mounted.save()
    (info, text), *others = contents_of(mounted.backup)
    text = text.replace(b'"sqlite"', b'"postgresql"')
    info.size = len(text)
    write_archive(mounted.backup, [(info, text), *others])
    monkeypatch.setattr(hub_archive, "restore_postgresql", fails)
    mounted.write("INSERT INTO users VALUES ('bob')")
    with pytest.raises(hub_archive.ArchiveError, match="nothing was changed: no database"):
        mounted.put_back()
    assert mounted.users() == ["alice", "bob"]
    assert [path.name for path in mounted.data.iterdir()] == ["jupyterhub.sqlite"]
    assert (mounted.data.stat().st_uid, mounted.data.stat().st_mode & 0o777) == (1234, 0o750)


def test_only_its_owner_can_read_the_file(hub: Hub) -> None:
    hub.save()
    assert hub.backup.stat().st_mode & 0o777 == 0o600


def test_other_copies_of_the_database_stay_out(hub: Hub) -> None:
    (hub.data / "jupyterhub.sqlite.2026-01-01-000000").write_text("an older copy")
    (hub.data / "jupyterhub.sqlite-wal").write_text("of a moment")
    hub.save()
    with tarfile.open(hub.backup) as archive:
        assert [name for name in archive.getnames() if "sqlite" in name] == ["data/jupyterhub.sqlite"]


def test_database_is_whole_although_the_hub_writes_to_it(hub: Hub) -> None:
    """Two rows are always written together: a plain copy of the file could see one of them."""
    hub.write("PRAGMA journal_mode=WAL")
    stop = threading.Event()

    def work() -> None:
        connection = sqlite3.connect(hub.database)
        number = 0
        while not stop.is_set():
            number += 1
            with connection:
                connection.execute("INSERT INTO users VALUES (?)", (f"a{number}",))
                connection.execute("INSERT INTO users VALUES (?)", (f"b{number}",))
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            hub.save()
            copy = hub.backup.with_name("copy.sqlite")
            with tarfile.open(hub.backup) as archive:
                member = archive.extractfile("data/jupyterhub.sqlite")
                assert member
                copy.write_bytes(member.read())
            with sqlite3.connect(copy) as connection:
                names = [row[0] for row in connection.execute("SELECT name FROM users WHERE name != 'alice'")]
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
            assert {name[1:] for name in names if name[0] == "a"} == {name[1:] for name in names if name[0] == "b"}
    finally:
        stop.set()
        thread.join()


def refused(hub: Hub) -> str:
    with pytest.raises(hub_archive.ArchiveError) as caught:
        hub.put_back()
    assert hub.users() == ["alice"]
    assert sorted(path.name for path in hub.data.parent.iterdir()) == ["jupyterhub"]
    return str(caught.value)


def test_file_that_is_cut_off_changes_nothing(hub: Hub) -> None:
    (hub.configuration / "big").write_bytes(bytes(range(256)) * 4000)
    hub.save()
    whole = hub.backup.read_bytes()
    hub.backup.write_bytes(whole[: len(whole) // 2])
    assert refused(hub).startswith("The backup could not be put in place, and nothing was changed: ")


def test_file_that_is_no_archive(hub: Hub) -> None:
    hub.backup.write_text("hello")
    assert refused(hub).startswith("The backup cannot be read: ")


def test_archive_of_something_else(hub: Hub) -> None:
    with tarfile.open(hub.backup, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("data/x"), io.BytesIO())
    assert refused(hub) == (
        "The backup could not be put in place, and nothing was changed: The file is no backup of CampusHub, or one of "
        "a newer version."
    )


def test_archive_cannot_write_outside(hub: Hub) -> None:
    hub.save()
    write_archive(hub.backup, [*contents_of(hub.backup), (tarfile.TarInfo("data/../../../evil"), b"")])
    hub.put_back()
    assert not (hub.backup.parent.parent / "evil").exists()
    assert not (hub.backup.parent / "evil").exists()


def test_no_hub(tmp_path: Path) -> None:
    with pytest.raises(hub_archive.ArchiveError, match="so there is no hub to save"):
        hub_archive.create(tmp_path / "x", tmp_path / "none", tmp_path / "none")


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("", ""),
        ("sqlite:///jupyterhub.sqlite", ""),
        ("postgresql+psycopg://hub:secret@db/hub", "postgresql://hub:secret@db/hub"),
        ("postgresql://hub@db/hub", "postgresql://hub@db/hub"),
    ],
)
def test_url_is_given_to_postgresql_without_the_driver(tmp_path: Path, url: str, server: str) -> None:
    assert hub_archive.database_url(tmp_path) == ""
    (tmp_path / "database_url").write_text(f"# Managed\n{url}\n")
    assert hub_archive.database_url(tmp_path) == server


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://hub:s%40cret@db:5433/hub?sslmode=require",
        "postgresql+psycopg://hub@[2001:db8::1]:5432/hub",
        "postgresql+psycopg:///hub?host=/run/postgresql",
    ],
)
def test_the_copy_before_an_upgrade_is_of_the_same_database(tmp_path: Path, url: str) -> None:
    """The hub's own program stands alone on its host, so that it reads the URL a second time."""
    program = runpy.run_path(str(ROOT / "files/campushub_hub/src/campushub_hub/bin/backup_database.py"))
    address, environment = program["connection"](url)
    (tmp_path / "database_url").write_text(url)
    assert hub_archive.without_password(hub_archive.database_url(tmp_path)) == (
        address,
        environment.get("PGPASSWORD", ""),
    )


def test_database_of_another_kind(hub: Hub) -> None:
    with pytest.raises(hub_archive.ArchiveError) as caught:
        hub.save("mysql://db/hub")
    assert str(caught.value) == (
        "The database is mysql; only SQLite and PostgreSQL can be saved and restored from here."
    )


def test_program_that_is_missing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(hub_archive.ArchiveError) as caught:
        hub.save("postgresql://db/hub")
    assert str(caught.value) == "pg_dump is missing on this host: apt-get install postgresql-client"
    assert not hub.backup.exists()


def test_password_is_in_no_list_of_processes(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for pg_dump(1) writes down how it was called; the real one is in the test of the lifecycle."""
    program = tmp_path / "bin/pg_dump"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$PGPASSWORD $*" >{tmp_path}/called\nfor file; do :; done\ntouch "${{file#*=}}"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    hub.save("postgresql+psycopg://hub:s%40cret@db:5433/hub?sslmode=require")
    password, arguments = (tmp_path / "called").read_text().split(" ", 1)
    assert password == "s@cret"
    assert arguments.startswith("--dbname=postgresql://hub@db:5433/hub?sslmode=require --format=custom --file=")


def stand_in(directory: Path, program: str, script: str) -> None:
    (directory / "bin").mkdir(exist_ok=True)
    (directory / "bin" / program).write_text(f"#!/bin/sh\n{script}\n")
    (directory / "bin" / program).chmod(0o755)


def test_servers_that_are_younger_than_a_backup_are_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins for systemctl(1) and squeue(1); real units and jobs are in the tests of the lifecycle and of Slurm."""
    hub.save()
    now = time.monotonic()
    units = [
        ("alice", "active", now + 60),
        ("bob", "active", now - 60),
        ("carol", "activating", now + 60),
        ("dave", "failed", now + 60),
    ]
    shown = [
        f"Id=jupyterhub-user-{name}.service\nActiveState={state}\nInactiveExitTimestampMonotonic={1e6 * since:.0f}\n"
        for name, state, since in units
    ]
    (tmp_path / "units").write_text("\n".join(shown))
    stand_in(tmp_path, "systemctl", f"cat {tmp_path}/units")
    jobs = f"erin 17 {time.time() + 60:.0f}\\nfrank 16 0"
    stand_in(tmp_path, "squeue", f"[ \"$SLURM_TIME_FORMAT\" = %s ] && printf '{jobs}\\n'")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(hub_archive, "SLURM", tmp_path / "none")
    younger = ["jupyterhub-user-alice.service", "jupyterhub-user-carol.service"]
    assert hub_archive.lost_servers(hub.backup, hub.data) == younger
    (tmp_path / "slurm.conf").touch()
    monkeypatch.setattr(hub_archive, "SLURM", tmp_path / "slurm.conf")
    assert hub_archive.lost_servers(hub.backup, hub.data) == [*younger, "job 17 of erin"]
    # What Slurm does not say may be a server that is lost.
    stand_in(tmp_path, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    assert hub_archive.lost_servers(hub.backup, hub.data)[-1] == (
        "jobs that Slurm does not name now (Unable to contact slurm controller)"
    )


def test_jobs_are_known_by_the_name_that_the_hub_has_used(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the hub which is restored, and of the one on this host; squeue(1) is a stand-in."""
    (hub.data / "slurm_job_name").write_text("campushub-before\n")
    hub.save()
    stand_in(tmp_path, "systemctl", "")
    stand_in(tmp_path, "squeue", 'for word; do case "$word" in --name=*) echo "${word#*=}" 1 9999999999;; esac; done')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(hub_archive, "SLURM", tmp_path)
    monkeypatch.setattr(socket, "gethostname", lambda: "here.example.org")
    for written, names in (
        ("campushub-before\n", "campushub-before"),
        ("campushub-now\n", "campushub-before,campushub-now"),
        ("x --user=ann\n", "campushub-before,campushub-here"),
    ):
        (hub.data / "slurm_job_name").write_text(written)
        assert hub_archive.lost_servers(hub.backup, hub.data) == [f"job 1 of {names}"]
    (hub.data / "slurm_job_name").unlink()
    hub.save()
    assert hub_archive.lost_servers(hub.backup, hub.data) == ["job 1 of campushub-here"]


def test_a_file_that_is_no_backup_is_not_compared(hub: Hub) -> None:
    hub.backup.write_text("hello")
    with pytest.raises(hub_archive.ArchiveError, match="The backup cannot be read: "):
        hub_archive.lost_servers(hub.backup, hub.data)
