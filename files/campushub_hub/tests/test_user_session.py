"""Which limits a user gets."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from campushub_hub.host import stop, user_session
from campushub_hub.host.user_session import (
    SERVER_LIMITS,
    Settings,
    limits_of,
    parse_size,
    runtime_directory,
    server_limits,
    server_properties,
    slice_name,
)

DEFAULT = Settings(
    user_memory_limit="2G",
    user_cpu_limit=2.0,
    user_tasks_limit=1024,
    group_limits=[],
    uid_minimum=1000,
    create_homes=False,
    tmp_directory="",
)


@contextlib.contextmanager
def running_sudo(environment: dict[str, str]) -> Iterator[int]:
    """Run a stand-in for sudo with this environment; yield its number once the environment can be read."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as sudo:
        assert sudo.stdin
        assert sudo.stdout
        sudo.stdin.write(b"x")
        sudo.stdin.flush()
        sudo.stdout.read(1)
        yield sudo.pid
        sudo.stdin.close()


@pytest.mark.parametrize(
    ("size", "number"),
    [
        (None, None),
        ("", None),
        ("512K", 512 * 2**10),
        ("256M", 256 * 2**20),
        ("1.5G", 3 * 2**29),
        ("1T", 2**40),
        ("268435456", 2**28),
        (268435456, 2**28),
    ],
)
def test_sizes(size: str | int | None, number: int | None) -> None:
    assert parse_size(size) == number


@pytest.mark.parametrize("size", ["2 gigs", "2g", "G", "1GB", "-"])
def test_what_is_no_size(size: str) -> None:
    with pytest.raises(ValueError, match=r"could not convert|invalid literal"):
        parse_size(size)


@pytest.mark.parametrize(
    ("groups", "entries", "limits"),
    [
        (set(), [], (2**31, 2.0, 1024)),
        ({"users"}, [{"group": "physics", "memory": "8G"}], (2**31, 2.0, 1024)),
        # What an entry leaves out is as for everybody.
        ({"users", "physics"}, [{"group": "physics", "memory": "8G"}], (2**33, 2.0, 1024)),
        ({"physics"}, [{"group": "physics", "memory": None, "cpu": 4, "tasks": None}], (2**31, 4.0, 1024)),
        # The first entry that fits counts, in the order of the list.
        (
            {"physics", "staff"},
            [{"group": "staff", "memory": "1G"}, {"group": "physics", "memory": "8G", "tasks": 64}],
            (2**30, 2.0, 1024),
        ),
        ({"staff"}, [{"group": "staff", "memory": "", "cpu": 0, "tasks": 0}], (None, None, None)),
    ],
)
def test_limits(
    groups: set[str], entries: list[dict[str, Any]], limits: tuple[int | None, float | None, int | None]
) -> None:
    before = copy.deepcopy(DEFAULT)
    chosen = limits_of(groups, {**DEFAULT, "group_limits": entries})  # type: ignore[typeddict-item]
    assert (chosen["memory"], chosen["cpu"], chosen["tasks"]) == limits
    assert before == DEFAULT, "the settings are everybody's"


def test_sockets_of_kernels_fit_into_the_runtime_directory() -> None:
    """The name of a unix socket has at most 107 bytes; the longest of Jupyter's is kernel-UUID-ipc-NUMBER."""
    longest = runtime_directory(2**32 - 2) / f"kernel-{'0' * 36}-ipc-65535"
    assert len(str(longest)) <= 107
    assert slice_name(2001) == "jupyterhub-2001.slice"


def test_servers_of_a_user_share_temporary_files_of_their_own() -> None:
    properties = server_properties(2001, "/scratch/tmp")
    assert properties["BindPaths"] == "/run/jupyterhub-tmp/2001/tmp:/tmp /run/jupyterhub-tmp/2001/var-tmp:/var/tmp"
    assert properties["Requires"] == properties["After"] == "jupyterhub-tmp@2001.service"
    assert server_properties(2001, "") == {}, "the site wants the host's"


@pytest.mark.parametrize(
    ("said", "properties"),
    [
        (None, {}),
        ("0 0", {}),
        ("2147483648 50", {"MemoryMax": "2147483648", "MemorySwapMax": "0", "CPUQuota": "50%"}),
        ("0 200", {"CPUQuota": "200%"}),
    ],
)
def test_a_server_has_the_limits_that_its_sudo_is_started_with(said: str | None, properties: dict[str, str]) -> None:
    environment = {SERVER_LIMITS: said, "A": "B"} if said else {"A": "B"}
    with running_sudo(environment) as pid:
        assert server_limits(pid) == properties


@pytest.mark.parametrize("said", ["x 1", "1\nMemoryMax=infinity 1", "1", "1 nan", "-5 -1", "1 2 3"])
def test_no_other_words_become_properties_of_a_server(said: str) -> None:
    with running_sudo({SERVER_LIMITS: said}) as pid, contextlib.suppress(ValueError):
        assert server_limits(pid) == {}


@pytest.mark.parametrize(
    ("user", "action", "refused"),
    [("slurm", "associate", False), ("slurm", "submit", True), ("daemon", "cancel", True)],
)
def test_slurms_own_user_may_cancel_and_associate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, action: str, refused: bool
) -> None:
    """Whatever the lowest number of people is; it has no server."""
    account = pwd.struct_passwd((user, "x", 64030, 64030, "", "/nonexistent", "/bin/false"))
    (tmp_path / "settings.json").write_text(json.dumps({"CampusSpawner": {"uid_minimum": 100000}}))
    monkeypatch.setattr(user_session, "SETTINGS", tmp_path / "settings.json")
    monkeypatch.setattr(pwd, "getpwnam", lambda _: account)
    monkeypatch.setattr(user_session, "last_argument", lambda _: action)
    moved: list[Any] = []
    monkeypatch.setattr(user_session, "move_into_scope", lambda *place: moved.append(place[2:]))
    assert bool(user_session.main({"PAM_TYPE": "open_session", "PAM_USER": user})) == refused
    # Outside of what a user may run, and not indefinitely.
    assert moved == ([] if refused else [("system.slice", user_session.OTHER_SECONDS)])


def test_a_unit_has_the_number_that_the_hub_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemd-run would do is written down."""
    asked: list[str] = []
    account = pwd.struct_passwd(("ann", "x", 2001, 2001, "", "/home/ann", "/bin/bash"))
    environment = {user_session.SERVER_UNIT: "17 20"}
    with running_sudo(environment) as pid:
        monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.extend(command))
        monkeypatch.setattr(user_session, "wait_for_removal", lambda _uid: None)
        user_session.start_receiver(account, pid, "")
    expected = {"--unit=jupyterhub-user-2001-17.service", "--property=TimeoutStopSec=20s", "--property=KillMode=mixed"}
    assert expected <= set(asked)


@pytest.mark.parametrize("former", [True, False])
def test_a_server_that_a_former_hub_starts_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, former: bool) -> None:
    """Its mediator becomes the server: within the limits of its user, and for longer than a mediator may take."""
    account = pwd.struct_passwd(("ann", "x", 2001, 2001, "", "/home/ann", "/bin/bash"))
    (tmp_path / "settings.json").write_text(json.dumps({"CampusSpawner": DEFAULT}))
    monkeypatch.setattr(user_session, "SETTINGS", tmp_path / "settings.json")
    monkeypatch.setattr(pwd, "getpwnam", lambda _: account)
    monkeypatch.setattr(user_session, "groups_of", lambda _: set())
    monkeypatch.setattr(user_session, "last_argument", lambda _: "spawn")
    monkeypatch.setattr(user_session, "numbers_of", lambda *_: [] if former else [17, 20])
    asked: list[str] = []
    for name in ("prepare", "start_receiver"):
        monkeypatch.setattr(user_session, name, lambda *_, name=name: asked.append(name))
    # What busctl would do is written down. The kernel would say that it is done.
    monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.extend(command))
    real = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: asked[-100:] if path.name == "cgroup" else real(path))
    assert user_session.main({"PAM_TYPE": "open_session", "PAM_USER": "ann"}) == 0
    assert ("start_receiver" in asked) != former
    assert ("jupyterhub-2001.slice" in asked, "system.slice" in asked) == (former, not former)
    assert ("RuntimeMaxUSec" in asked) != former
    begin = asked.index("fail")
    # A mediator is not taken for a server.
    assert stop.is_server(asked[begin - 1]) == former
    assert asked[begin - 1].startswith("jupyterhub-user-" if former else "jupyterhub-mediator-2001-")
    assert asked[begin + 1 : begin + 6] == ["3" if former else "5", "PIDs", "au", "1", str(os.getppid())]
