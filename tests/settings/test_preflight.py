"""What the preflight checks say about inventories and about hosts that cannot be looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from plugins.action import preflight_report as report
from tests.settings.validation import preflight

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {"hub": "the host that people log in to", "compute": "the hosts on which their notebooks run"}
# Nothing listens there: ssh gives up at once.
DEAD = {"ansible_host": "127.0.0.1", "ansible_port": 1}
HERE = {"ansible_connection": "local"}


@pytest.mark.parametrize(
    ("members", "errors"),
    [
        ({"hub": ["h"], "compute": ["c"]}, []),
        ({"hub": ["h"], "lab": ["h"]}, []),
        ({"hub": []}, ["inventory: the group hub has no host. Put the host that people log in to in it."]),
        ({"compute": ["c"]}, ["inventory: the group hub has no host. Put the host that people log in to in it."]),
        (
            {"hub": ["h"], "computes": ["c"]},
            ["inventory: the group computes does nothing. Did you mean compute?"],
        ),
        (
            {"hub": ["h"], "nodes": ["c"]},
            ["inventory: host c is in no group that does something. Put it in one of: hub, compute."],
        ),
    ],
)
def test_groups(members: dict[str, list[str]], errors: list[str]) -> None:
    hosts = sorted({host for group in members.values() for host in group})
    assert (
        report.group_errors({**members, "all": hosts, "ungrouped": []}, GROUPS, ["hub"], {"desktops": "displays"})
        == errors
    )


def test_a_cluster_has_one_hub() -> None:
    members = {"hub": ["h1", "h2"], "all": ["h1", "h2"]}
    assert report.group_errors(members, GROUPS, ["hub"], {}) == []
    assert report.group_errors(members, GROUPS, ["hub"], {}, {"hub": "a Slurm cluster has one hub"}) == [
        "inventory: the group hub has 2 hosts (h1, h2), and a Slurm cluster has one hub. Keep one of them there."
    ]


def test_what_a_host_has_of_a_group_that_it_has_left_is_named() -> None:
    playbook = yaml.safe_load((ROOT / "playbooks" / "preflight.yml").read_text())
    (table,) = (
        play["vars"]["preflight_leftovers"] for play in playbook if "preflight_leftovers" in play.get("vars", {})
    )
    known = {name for task in playbook[1]["tasks"] for name in task.get("preflight_report", {}).get("groups", ())}
    assert {group for entry in table for group in entry["groups"]} == known
    there = {
        "h": ["/etc/campushub/homes.json", "/etc/jupyterhub/settings.json", "/opt/campushub/user"],
        "a": ["/etc/campushub/homes.json", "/etc/squid/conf.d/campushub.conf"],
        "b": ["/etc/squid/conf.d/campushub.conf", "/etc/jupyterhub/settings.json"],
        "unknown": [],
    }
    members = {"hub": ["h"], "network_homes": ["a"], "all": list(there)}
    goes_on = "has switched on goes on outside of it. Put each host back there, run"
    assert report.leftover_warnings(members, table, there) == [
        f"b: what the group hub {goes_on} ./campushub remove -e confirm=yes --limit b, and take it out then.",
        f"h: what the group network_homes {goes_on} install with homes_state: absent for it, and take it out then.",
        f"a, b: what the group squid {goes_on} install with squid_state: absent for it, and take it out then.",
    ]


def test_a_cluster_is_told_of_accounts_without_numbers(tmp_path: Path) -> None:
    hub = {
        **DEAD,
        "accounts_users": [{"name": "ann", "uid": 2001}, {"name": "bob"}, {"name": "old", "state": "absent"}, 7],
        "jupyterhub_profiles": [{"name": "large", "title": "Large", "run_on": "slurm"}],
    }
    advice = "[WARNING]: accounts_users: bob may get different UIDs on hub and nodes, and then cannot use their homes"
    hubs = {"h1": hub, "h2": hub}
    _, output = preflight(tmp_path, {"hub": {"hosts": hubs}, "compute": {"hosts": {"n1": DEAD}}})
    assert advice in output
    assert "the group hub has 2 hosts (h1, h2), and a Slurm cluster has one hub." in output
    # Hubs without a cluster know nothing of one another, nor does one host have to agree with itself.
    for groups in (
        {"hub": {"hosts": {name: hub | {"jupyterhub_profiles": []} for name in hubs}}},
        {"hub": {"hosts": {"h1": hub}}, "compute": {"hosts": {"h1": {}}}},
        {"hub": {"hosts": {"h1": hub | {"accounts_directory": "ldap"}}}, "compute": {"hosts": {"n1": DEAD}}},
    ):
        _, output = preflight(tmp_path, groups)
        assert "may get different UIDs" not in output
        assert "one hub" not in output


def test_equal_messages_of_several_hosts_are_one_line() -> None:
    found = ["a: base_x is bad", "inventory: y", "b: base_x is bad", "b: z: q", "a: base_x is bad"]
    assert report.merged(found, ["a", "b"]) == ["a, b: base_x is bad", "inventory: y", "b: z: q"]


def test_no_host_at_all(tmp_path: Path) -> None:
    status, output = preflight(tmp_path, {"all": {"hosts": {}}})
    assert status != 0
    assert "has no hosts. Name one that has" in output


def test_other_files_in_the_directory_of_an_inventory_are_named(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    stray = tmp_path / "site" / "notes"
    stray.write_text("".join(f"word{number} # of a note\n" for number in range(40)))
    (tmp_path / "site" / "install.log").write_text("PLAY RECAP\n")
    inventory = {"hub": {"hosts": {"h1": DEAD}}}
    (tmp_path / "site" / "hosts.yml").write_text(yaml.safe_dump(inventory))
    status, output = preflight(tmp_path / "site", inventory, "-i", f"{tmp_path}/site")
    assert status != 0
    assert f"{stray}: read as a part of the inventory, and no host in it is in a group." in output
    assert "word7" not in output
    stray.unlink()
    assert "read as a part" not in preflight(tmp_path / "site", inventory, "-i", f"{tmp_path}/site")[1]


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_everything_is_in_one_list_though_no_host_answers(tmp_path: Path, options: tuple[str]) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    status, output = preflight(
        tmp_path,
        {
            "hub": {"hosts": {"dead": {**DEAD, "base_timezon": "UTC"}}},
            "compute": {
                "hosts": {
                    "snakeless": {**HERE, "ansible_python_interpreter": "/nonexistent/python3"},
                    "powerless": {**HERE, "ansible_become_exe": str(sudo), "ansible_become_user": "nobody"},
                    "dead2": {**DEAD, "base_timezon": "UTC", "base_state": "gone"},
                }
            },
            "comput": {"hosts": {"dead2": {}}},
        },
        *options,
    )
    assert status != 0
    expected = """
        6 mistakes to put right before anything is changed:

        - inventory: the group comput does nothing. Did you mean compute?
        - dead, dead2: cannot be reached: connect to host 127.0.0.1 port 1: Connection refused. Is it up, and are its
          ansible_host, ansible_user and key right?
        - dead, dead2: base_timezon is no setting of role base. Did you mean base_timezone?
        - snakeless: has no Python where ansible_python_interpreter says (/usr/bin/python3 by default). Install
          python3.
        - powerless: its user cannot become root: sudo: a password is required. Allow sudo for ansible_user, or give
          its password with --ask-become-pass.
        - dead2: base_state = "gone" is none of present, absent. See docs/reference/settings/base.md.
    """
    assert " ".join(expected.split()) in output


def test_a_misspelt_variable_of_a_vault_is_in_the_list(tmp_path: Path) -> None:
    people = {"accounts_users": [{"name": "ana", "password_hash": "{{ vault_anna }}"}], "web_tls_mode": "magic"}
    cluster = {"hub": {"hosts": {"h1": DEAD | people}}, "compute": {"hosts": {"n1": DEAD | people}}}
    status, output = preflight(tmp_path, cluster)
    assert status != 0
    assert "3 mistakes to put right" in output
    assert "- h1, n1: accounts_users cannot be worked out: 'vault_anna' is undefined" in output
    assert '- h1: web_tls_mode = "magic" is none of own, acme, self_signed.' in output


def test_an_empty_setting_keeps_no_other_from_its_check(tmp_path: Path) -> None:
    empty = {"base_no_proxy": None, "jupyterhub_admin_users": None, "jupyterhub_tasks_limit": None}
    status, output = preflight(tmp_path, {"hub": {"hosts": {"h1": {**DEAD, **empty}}}})
    assert status != 0
    assert "base_no_proxy = null is empty, but a list of texts is needed. Write [] for none." in output
    assert "jupyterhub_admin_users = null is empty, but a list of texts is needed. Write [] for none." in output
    assert "jupyterhub_tasks_limit = null is empty, but a whole number is needed." in output
