"""What local_accounts plans for a host."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from plugins.module_utils.system_groups import system_groups
from plugins.modules import local_accounts
from plugins.modules.local_accounts import Account, Group, Home, Host, Plan, Planner, digest
from tests.unit.modules import run_module

OLD, NEW = "$6$salt$old", "$6$salt$new"


def ann(**changes: Any) -> Account:
    return Account(**{"uid": 1001, "gid": 1001, "full_name": "", "home": "/home/ann", "shell": "/bin/bash", **changes})


def host(**changes: Any) -> Host:
    """Return a host with ann as this module would have made her."""
    parts: dict[str, Any] = {
        "users": {"root": Account(0, 0, "root", "/root", "/bin/sh"), "ann": ann(hashed=OLD)},
        "groups": {"root": Group(0, []), "ann": Group(1001, []), "hub": Group(1002, ["ann"]), "sudo": Group(27, [])},
        "system_groups": {"root", "sudo"},
        "homes": {"/home/ann": Home(1001, 0o700)},
        "applied": {"ann": digest(OLD)},
    }
    return Host(**{**parts, **changes})


def plan(before: Host, *users: dict[str, Any], groups: tuple[dict[str, Any], ...] = ()) -> Plan:
    return Planner(before, list(users), list(groups), "hub").make()


def commands(made: Plan) -> list[list[str]]:
    return [action.argv or ["close", str(action.close)] for action in made.actions]


def test_nothing_is_done_where_all_is_as_listed() -> None:
    made = plan(host(), {"name": "ann", "uid": 1001, "password_hash": OLD}, {"name": "eve", "state": "absent"})
    assert (made.actions, made.problems) == ([], [])


def test_whose_server_runs_is_not_removed_and_it_is_said_why() -> None:
    module = SimpleNamespace(
        check_mode=False, get_bin_path=lambda name, **_: name, run_command=lambda *_, **__: (8, "", "ann is in use")
    )
    runner = local_accounts.Runner(module)
    for action in plan(host(), {"name": "ann", "state": "absent"}).actions:
        runner.run(action)
    assert "".join(runner.problems) == (
        "could not remove user ann: ann is in use. End servers and jobs with campushub-revoke ann on the hub, what else"
        " runs with loginctl terminate-user ann here, and run this again."
    )


def test_a_new_account_follows_its_groups_with_its_hash_on_stdin() -> None:
    user = {"name": "bob", "uid": 2001, "full_name": "Bob", "groups": ["lab", "sudo"], "password_hash": NEW}
    made = plan(
        Host(groups={"sudo": Group(27, [])}, system_groups={"sudo"}), user, groups=({"name": "lab", "gid": 3000},)
    )
    assert commands(made) == [
        ["groupadd", "-g", "3000", "lab"],
        ["groupadd", "hub"],
        [
            "useradd",
            "-K",
            "HOME_MODE=0700",
            "-m",
            "-d",
            "/home/bob",
            "-s",
            "/bin/bash",
            "-u",
            "2001",
            "-c",
            "Bob",
            "-U",
            "-G",
            "hub,lab,sudo",
            "bob",
        ],
        ["chpasswd", "-e"],
    ]
    assert made.actions[-1].stdin == f"bob:{NEW}\n"
    assert made.applied == {"bob": digest(NEW)}
    assert all(NEW not in word for command in commands(made) for word in command)
    assert all(NEW not in action.words for action in made.actions)


def test_a_password_changes_only_when_another_hash_is_listed() -> None:
    user = {"name": "ann", "password_hash": OLD}
    changed_by_ann = host(users={"ann": ann(hashed="$6$salt$hers")})
    assert plan(changed_by_ann, user).actions == []
    assert commands(plan(changed_by_ann, {**user, "password_hash": NEW})) == [["chpasswd", "-e"]]
    assert plan(host(users={"ann": ann(hashed=f"!{OLD}")}, applied={}), user).actions == [], (
        "a locked account stays locked"
    )
    assert commands(plan(host(applied={}), {**user, "password_hash": NEW})) == [["chpasswd", "-e"]]


def test_memberships_end_only_in_groups_that_are_listed() -> None:
    groups = {"hub": Group(1002, ["ann"]), "lab": Group(3000, ["ann"]), "docker": Group(999, ["ann"])}
    made = plan(host(groups=groups), {"name": "ann", "access": False}, groups=({"name": "lab"},))
    assert commands(made) == [["usermod", "-G", "docker", "ann"]]
    assert made.actions[0].words == "change user ann: groups docker, hub, lab → docker"


def test_name_and_shell_follow_the_list() -> None:
    made = plan(host(), {"name": "ann", "full_name": "Ann", "shell": "/bin/sh"})
    assert commands(made) == [["usermod", "-c", "Ann", "-s", "/bin/sh", "ann"]]


def test_an_open_home_is_closed_and_a_missing_one_is_made() -> None:
    assert commands(plan(host(homes={"/home/ann": Home(1001, 0o755)}), {"name": "ann"})) == [["close", "/home/ann"]]
    assert commands(plan(host(homes={}), {"name": "ann"})) == [["mkhomedir_helper", "ann", "0077"]]
    assert plan(host(homes={"/home/ann": Home(0, 0o755)}), {"name": "ann"}).actions == [], (
        "another's directory is left alone"
    )


def test_an_account_that_comes_back_owns_its_home_again() -> None:
    made = plan(Host(groups={"hub": Group(1002, [])}, homes={"/home/ann": Home(1001, 0o755)}), {"name": "ann"})
    assert commands(made) == [
        [
            "useradd",
            "-K",
            "HOME_MODE=0700",
            "-m",
            "-d",
            "/home/ann",
            "-s",
            "/bin/bash",
            "-u",
            "1001",
            "-U",
            "-G",
            "hub",
            "ann",
        ],
        ["close", "/home/ann"],
    ]


def test_a_removed_account_loses_its_home_only_when_asked() -> None:
    assert commands(plan(host(), {"name": "ann", "state": "absent"})) == [["userdel", "ann"]]
    made = plan(host(), {"name": "ann", "state": "absent", "remove_home": True})
    assert commands(made) == [["userdel", "-r", "ann"]]
    assert made.applied == {}


def test_a_group_goes_after_its_members() -> None:
    made = plan(
        host(),
        {"name": "ann", "state": "absent"},
        groups=({"name": "hub", "state": "absent"}, {"name": "no", "state": "absent"}),
    )
    assert commands(made) == [["userdel", "ann"], ["groupdel", "hub"]]


def test_what_would_orphan_or_expose_files_is_refused_in_words() -> None:
    foreign = host(homes={"/home/bob": Home(1001, 0o755)})
    cases: list[tuple[Host, dict[str, Any], tuple[dict[str, Any], ...], str]] = [
        (
            host(),
            {"name": "ann", "uid": 2001},
            (),
            (
                "user ann has uid 1001 on this host, not 2001. Change uid in accounts_users, or move the files by hand:"
                " usermod -u 2001 ann."
            ),
        ),
        (
            host(),
            {"name": "bob", "uid": 1001},
            (),
            "user bob: uid 1001 belongs to ann on this host. Choose another in accounts_users.",
        ),
        (
            foreign,
            {"name": "bob"},
            (),
            (
                "user bob: /home/bob is there and belongs to number 1001 (ann)."
                " Move it away, or give that uid in accounts_users."
            ),
        ),
        (host(), {"name": "root"}, (), "user root is an account of the system (uid 0). Choose another name."),
        (
            host(),
            {"name": "root", "state": "absent"},
            (),
            "user root is an account of the system (uid 0) and is not removed.",
        ),
        (
            host(),
            {"name": "ann", "groups": ["docker"]},
            (),
            "user ann: there is no group docker on this host. Add it to accounts_groups.",
        ),
        (
            host(),
            {"name": "ann"},
            ({"name": "ann", "gid": 3000},),
            (
                "group ann has number 1001 on this host, not 3000. Change gid in accounts_groups, or move its files by"
                " hand: groupmod -g 3000 ann."
            ),
        ),
        (
            host(),
            {"name": "ann"},
            ({"name": "lab", "gid": 27},),
            "number 27 of group lab belongs to group sudo. Choose another gid in accounts_groups.",
        ),
        (
            host(),
            {"name": "bob"},
            ({"name": "ann", "state": "absent"},),
            "group ann is the first group of ann and is not removed.",
        ),
    ]
    for before, user, groups, problem in cases:
        assert plan(before, user, groups=groups).problems == [problem]


def test_one_impossible_account_does_not_stop_the_others() -> None:
    made = plan(host(), {"name": "root"}, {"name": "bob"})
    assert [command[0] for command in commands(made)] == ["useradd"]


def test_nobody_gets_a_group_of_the_system_as_first_group() -> None:
    made = plan(host(), {"name": "sudo"})
    assert commands(made) == []
    assert made.problems == [
        (
            "user sudo: group sudo belongs to the system, and the user would have its rights."
            " Choose another name in accounts_users."
        )
    ]
    former = host(
        users={"sudo": ann(gid=27, home="/home/sudo"), "sue": ann(gid=100)},
        groups={"sudo": Group(27, []), "hub": Group(1002, ["sudo"])},
    )
    assert plan(former, {"name": "sudo"}).problems == [
        "user sudo has group sudo of the system as first group, and its rights. Give another: usermod -g GROUP sudo."
    ]
    assert commands(plan(former, {"name": "sudo", "state": "absent"})) == [
        ["usermod", "-g", "65534", "sudo"],
        ["userdel", "sudo"],
    ]
    shared = host(users={"ann": ann(gid=100)}, groups={"users": Group(100, [])}, system_groups={"users"})
    assert plan(shared, {"name": "ann", "access": False}).problems == []


def test_a_new_user_shares_the_own_group_with_nobody() -> None:
    lab = host(groups={"lab": Group(3000, ["ann"]), "ann": Group(1001, []), "hub": Group(1002, ["ann"])})
    assert plan(lab, {"name": "lab"}).problems == [
        "user lab: the group lab has ann in it. Choose another name in accounts_users."
    ]
    assert plan(Host(), {"name": "hub"}).problems == [
        "user hub: the group hub is in accounts_groups. Choose another name in accounts_users."
    ]
    left = host(groups={"bob": Group(3000, []), "hub": Group(1002, [])})
    assert commands(plan(left, {"name": "bob"}))[0][-5:] == ["-g", "bob", "-G", "hub", "bob"]


def test_a_group_of_the_system_is_neither_changed_nor_removed() -> None:
    before = host(groups={"ssl-cert": Group(112, ["ann"]), "hub": Group(1002, ["ann"]), "ann": Group(1001, [])})
    before.system_groups = {"ssl-cert"}
    made = plan(before, {"name": "ann"}, groups=({"name": "ssl-cert"},))
    assert commands(made) == [], "a membership given by hand stays"
    assert made.problems == [
        "group ssl-cert belongs to the system (number 112). Choose another name in accounts_groups."
    ]
    made = plan(before, groups=({"name": "ssl-cert", "state": "absent"},))
    assert commands(made) == []
    assert made.problems == ["group ssl-cert belongs to the system (number 112) and is not removed."]
    made = Planner(before, [{"name": "bob"}], [], "ssl-cert").make()
    assert made.problems == [
        "group ssl-cert belongs to the system (number 112). Choose another name in accounts_access_group."
    ]
    assert "-G" not in commands(made)[0]


def test_groups_of_the_system_are_those_below_gid_min(tmp_path: Path) -> None:
    (tmp_path / "group").write_text("root:x:0:\nhub:x:600:ann\nlab:x:1000:\nnogroup:x:65534:\n+::::\n")
    assert system_groups(tmp_path) == {"root", "hub", "nogroup"}
    (tmp_path / "login.defs").write_text("#GID_MIN 100\nSYS_GID_MIN\t101\nGID_MIN\t\t500\n")
    assert system_groups(tmp_path) == {"root", "nogroup"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of an account with a file of keys to come."""
    if os.getuid() != 0:
        pytest.skip("only root becomes another user")
    monkeypatch.setattr(pwd, "getpwnam", lambda _: SimpleNamespace(pw_uid=0, pw_gid=0, pw_dir=str(tmp_path)))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def test_keys_are_read_and_written_as_they_are(home: Path) -> None:
    assert local_accounts.keys_as_user("ann", "read") == ""
    (home / ".ssh" / "authorized_keys").write_bytes(b"ssh-ed25519 A Zo\xeb\n")
    text = local_accounts.keys_as_user("ann", "read")
    local_accounts.keys_as_user("ann", "write", f"{text}ssh-ed25519 B\n")
    assert (home / ".ssh" / "authorized_keys").read_bytes() == b"ssh-ed25519 A Zo\xeb\nssh-ed25519 B\n"


def test_keys_that_are_listed_no_more_are_removed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of the host are stand-ins; the file of keys is a real one."""
    record, keys = tmp_path / "keys.json", home / ".ssh" / "authorized_keys"
    keys.write_text("ssh-ed25519 HERS\n")
    monkeypatch.setattr(local_accounts, "KEYED", str(record))

    def read_host(names: list[str]) -> local_accounts.Host:
        known = local_accounts.recorded(str(record))
        return host(keyed=set(names if known is None else known))

    monkeypatch.setattr(local_accounts, "read_host", read_host)

    def apply(**user: Any) -> dict[str, Any]:
        return run_module(local_accounts.main, users=[{"name": "ann", **user}], access_group="hub")

    assert apply()["changed"] is False, "keys of nobody but their user are not looked at"
    assert apply(ssh_keys=["ssh-ed25519 OURS"])["actions"] == ["set the ssh keys of ann"]
    assert record.stat().st_mode & 0o777 == 0o600
    # As long as there is such a record, results are not cached.
    assert local_accounts.wanted_keys([{"name": "ann", "state": "present", "ssh_keys": None}], {"ann"}) == {"ann": []}
    assert apply()["actions"] == ["set the ssh keys of ann"]
    assert keys.read_text() == "ssh-ed25519 HERS\n"
    assert apply()["changed"] is False
    # Of a run that was cut off, or a former release, which kept no record.
    apply(ssh_keys=["ssh-ed25519 OURS"])
    record.write_text("[]")
    with monkeypatch.context() as cut:
        cut.setattr(local_accounts.Runner, "keys", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            apply(ssh_keys=["ssh-ed25519 OURS"])
    assert json.loads(record.read_text()) == ["ann"]
    record.unlink()
    assert apply()["actions"] == ["set the ssh keys of ann"]
    assert keys.read_text() == "ssh-ed25519 HERS\n"
    assert json.loads(record.read_text()) == []


@pytest.mark.attack
def test_a_file_of_keys_beyond_all_measure_is_not_read(home: Path) -> None:
    keys = home / ".ssh" / "authorized_keys"
    keys.touch()
    os.truncate(keys, local_accounts.LONGEST_KEYS + 1)
    with pytest.raises(OSError, match="has more than 1048576 bytes"):
        local_accounts.keys_as_user("ann", "read")
    keys.unlink()
    os.mkfifo(keys)
    assert local_accounts.keys_as_user("ann", "read") == "", "nor waited for"


@pytest.mark.attack
@pytest.mark.usefixtures("home")
def test_what_a_user_has_the_program_print_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_accounts, "KEYS_PROGRAM", "import sys\nwhile True: sys.stdout.write('x' * 10000)")
    with pytest.raises(OSError, match=r"status|File too large"):
        local_accounts.keys_as_user("ann", "read")
