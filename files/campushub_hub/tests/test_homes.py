"""Homes on a network file system: who looks at them never hangs, and what has to be on a local disk is there."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.conftest import Storage

from campushub_hub.host import look, mediator, user_session
from campushub_hub.host.user_session import Homes, home_path, homes_of_site, local_directory, make_private_directory

ME = pwd.getpwuid(os.getuid())
NOBODY = 65534
CHECK_TIMEOUT = 0.7
ANNA = pwd.struct_passwd(("anna", "x", 2001, 2001, "", "/home/anna", "/bin/bash"))


def homes(**others: Any) -> Homes:
    site = {
        "layout": "",
        "mount_point": "",
        "check_timeout": CHECK_TIMEOUT,
        "on_unavailable": "refuse",
        "create_command": [],
    }
    return Homes(**{**site, "local_directory": "/var/lib/local", **others})  # type: ignore[typeddict-item]


def looked(home: Path, mount_point: str = "", scratch: str = "", action: str = "probe") -> dict[str, Any]:
    """Return what the mediator, run as sudo or the service manager would, says of a home."""
    request = {"home": str(home), "mount_point": mount_point, "timeout": CHECK_TIMEOUT, "scratch": scratch}
    request["env"] = {"KRB5CCNAME": "FILE:/run/krb5cc/1", "LD_PRELOAD": "/nowhere.so"}
    begin = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-I", mediator.__file__, action],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert time.monotonic() - begin < CHECK_TIMEOUT + 1.5
    answer: dict[str, Any] = json.loads(run.stdout)
    assert answer.pop("ok") is True
    return answer


def who_looks() -> list[int]:
    """Return the processes that somebody who looked has left behind; the tests have adopted them."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(child) for child in children if look.__file__ in Path(f"/proc/{child}/cmdline").read_text()]


OK = {"home": "ok", "problem": ""}


@pytest.mark.parametrize("action", ["probe", "create-home"])
def test_a_home_that_can_be_used(tmp_path: Path, action: str) -> None:
    assert looked(tmp_path, action=action) == OK


def test_a_home_on_storage_that_answers(storage: Storage) -> None:
    assert looked(storage.directory, mount_point=str(storage.directory)) == OK
    assert who_looks() == []


def test_a_missing_home(tmp_path: Path) -> None:
    assert looked(tmp_path / "anna") == {"home": "missing", "problem": "No such file or directory"}
    (tmp_path / "file").touch()
    assert looked(tmp_path / "file") == {"home": "missing", "problem": "Not a directory"}


def seen_by_another(home: Path) -> list[str]:
    """Return what a user without rights finds; a fork, for they cannot run what lies in root's own directories."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writer, json.dumps(look.state_of(str(home), "")).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found: list[str] = json.load(pipe)
    return found


def test_a_home_that_the_user_has_no_right_to() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can look as another user")
    with tempfile.TemporaryDirectory() as home:
        assert seen_by_another(Path(home)) == ["unavailable", "Permission denied"]
        Path(home).chmod(0o755)
        assert seen_by_another(Path(home)) == ["unavailable", "it cannot be written to"]
        Path(home).chmod(0o777)
        assert seen_by_another(Path(home)) == ["ok", ""]


def test_nothing_is_mounted_where_homes_are(tmp_path: Path) -> None:
    """Nobody is to work in what lies below the mount, on the host's own disk."""
    (tmp_path / "anna").mkdir()
    nothing = {"home": "unavailable", "problem": f"nothing is mounted at {tmp_path}"}
    assert looked(tmp_path / "anna", mount_point=str(tmp_path)) == nothing
    assert looked(tmp_path / "bert", mount_point=str(tmp_path)) == nothing
    assert looked(tmp_path / "anna", mount_point=f"{tmp_path}/an") == OK, "a home elsewhere"


@pytest.mark.attack
@pytest.mark.parametrize("name", [b"a\rb", b"a\x0bb", b"a\xc2\x85b", b"\xff"], ids=repr)
def test_a_name_of_another_users_mount_hides_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(
        b"30 1 0:40 / /net/homes rw - nfs4 server:/homes rw\n35 1 0:45 / /home/eve/" + name + b" rw - fuse x rw\n"
    )
    monkeypatch.setattr(look, "MOUNTS", str(table))
    assert look.is_mounted("/net/homes/ann", "/net")
    assert not look.is_mounted("/other/ann", "/other")


def test_a_mount_below_the_place_of_mounts_counts(storage: Storage) -> None:
    """As with EOS, where each letter is a mount of its own, and homes are reached by links."""
    above = storage.directory.parent
    assert looked(storage.directory, mount_point=str(above)) == OK
    (above / "link").symlink_to(storage.directory)
    assert looked(above / "link", mount_point=str(above)) == OK
    # Missing on the storage is not the same as storage that is missing.
    assert looked(above / "link" / "bert", mount_point=str(above))["home"] == "missing"
    assert looked(above / "bert", mount_point=str(above)) == {
        "home": "unavailable",
        "problem": f"nothing is mounted at {above}",
    }


def test_storage_that_hangs_blocks_nobody_and_is_used_again(
    storage: Storage,
    adoption: None,  # noqa: ARG001 (it only has to be there)
) -> None:
    storage.hang()
    silent = {"home": "unavailable", "problem": "it does not answer"}
    assert looked(storage.directory) == silent
    (stuck,) = who_looks()
    # By this a file system would know the user.
    assert Path(f"/proc/{stuck}/environ").read_text() == "KRB5CCNAME=FILE:/run/krb5cc/1\0"
    os.kill(stuck, signal.SIGKILL)
    time.sleep(0.3)
    assert Path(f"/proc/{stuck}/stat").read_text().rpartition(")")[2].split()[0] == "D", "it does not hang as it should"
    assert looked(storage.directory) == silent
    storage.go_on()
    end = time.monotonic() + 5
    while who_looks() and time.monotonic() < end:
        time.sleep(0.05)
    assert who_looks() == []
    assert looked(storage.directory) == OK


def test_storage_whose_server_has_died(storage: Storage) -> None:
    storage.die()
    assert looked(storage.directory) == {"home": "unavailable", "problem": "Transport endpoint is not connected"}
    storage.unmount()
    storage.mount()
    assert looked(storage.directory) == OK


def test_a_home_in_place_of_one_that_is_down_says_so(tmp_path: Path) -> None:
    scratch = tmp_path / "local" / "home"
    assert (
        looked(tmp_path / "x" / "anna", mount_point=str(tmp_path / "x"), scratch=str(scratch))["home"] == "unavailable"
    )
    assert scratch.stat().st_mode & 0o777 == 0o700
    notice = (scratch / mediator.NOTICE).read_text()
    assert f"`{tmp_path}/x/anna` cannot be used at the moment: nothing is mounted at {tmp_path}/x." in notice
    assert looked(tmp_path / "anna", scratch=f"{scratch}2")["home"] == "missing"
    assert looked(tmp_path, scratch=f"{scratch}2") == OK
    assert not Path(f"{scratch}2").exists()


@pytest.mark.parametrize(
    ("layout", "home"),
    [
        ("", "/home/anna"),
        ("/eos/user/{first_letter}/{login}", "/eos/user/a/anna"),
        ("/net/{login}/home", "/net/anna/home"),
    ],
)
def test_where_homes_are(layout: str, home: str) -> None:
    assert home_path(ANNA, homes(layout=layout)) == home


def test_what_the_site_says_of_homes(tmp_path: Path) -> None:
    assert homes_of_site(tmp_path / "homes.json") is None
    (tmp_path / "homes.json").write_text(json.dumps(homes(check_timeout=3)))
    assert homes_of_site(tmp_path / "homes.json") == homes(check_timeout=3)


@pytest.mark.parametrize(
    ("text", "ticket"),
    [
        ("[libdefaults]\n  default_ccache_name = FILE:/run/krb5cc/%{uid}/krb5cc\n", "FILE:/run/krb5cc/2001/krb5cc"),
        ("  default_ccache_name=KEYRING:persistent:%{uid}\n[realms]\n", "KEYRING:persistent:2001"),
        ("  default_ccache_name = FILE:%{TEMP}/krb5cc_%{uid}\n", ""),
        ("# default_ccache_name = FILE:/tmp/x\n[libdefaults]\n", ""),
        (None, ""),
    ],
)
def test_where_tickets_are(tmp_path: Path, text: str | None, ticket: str) -> None:
    if text is not None:
        (tmp_path / "krb5.conf").write_text(text)
    assert user_session.kerberos_ccache(2001, tmp_path / "krb5.conf") == ticket


def test_a_session_creates_local_directories_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_session, "limit_slice", lambda _uid, _limits: None)
    monkeypatch.setattr(user_session, "RUNTIME_ROOT", tmp_path / "run")
    monkeypatch.setattr(user_session, "homes_of_site", lambda: homes(local_directory=f"{tmp_path}/local"))
    made: list[str] = []
    monkeypatch.setattr(user_session, "make_home", lambda account: made.append(account.pw_name))
    unlimited = user_session.Limits(memory=None, cpu=None, tasks=None)
    settings = user_session.Settings(
        user_memory_limit="",
        user_cpu_limit=0,
        user_tasks_limit=0,
        group_limits=[],
        uid_minimum=0,
        create_homes=True,
        tmp_directory="",
    )
    for _ in range(2):
        user_session.prepare(ME, unlimited, settings)
    assert made == [], "root would wait for a mount that hangs"
    for directory in (tmp_path / "run", tmp_path / "local"):
        assert directory.stat().st_mode & 0o777 == 0o755
        assert (directory / str(ME.pw_uid)).stat().st_mode & 0o777 == 0o700
        assert (directory / str(ME.pw_uid)).stat().st_uid == ME.pw_uid
    monkeypatch.setattr(user_session, "homes_of_site", lambda: None)
    user_session.prepare(ME, unlimited, settings)
    assert made == [ME.pw_name]


def test_local_directories_stay_closed_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_directory(local_directory(ME.pw_uid, homes(local_directory=str(tmp_path / "deep" / "local"))), ME)
    finally:
        os.umask(before)
    assert (tmp_path / "deep" / "local" / str(ME.pw_uid)).stat().st_mode & 0o777 == 0o700


def test_the_command_that_makes_homes_knows_whose(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_others: Any) -> None:
        ran.append(command)

    monkeypatch.setattr(subprocess, "run", run)
    command = ["/usr/local/bin/make-home", "--for={login}", "{uid}", "{home}", "{other}"]
    user_session.make_network_home(ANNA, homes(layout="/eos/{first_letter}/{login}", create_command=command))
    (asked,) = ran
    assert asked[asked.index("--") + 1 :] == [command[0], "--for=anna", "2001", "/eos/a/anna", "{other}"]
    assert "--property=RuntimeMaxSec=60" in asked
