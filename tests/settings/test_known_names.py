"""Users and groups that settings of the hub name, and nobody knows."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest

from plugins.modules import check_host
from tests.settings.validation import preflight


def entry(*names: str, kind: str = "user", planned: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "setting": f"jupyterhub_admin_{kind}s",
        "kind": kind,
        "names": list(names),
        "planned": list(planned),
        "planned_in": f"accounts_{kind}s",
    }


def test_names_of_this_host_and_planned_ones_are_known() -> None:
    here, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    wanted = [entry(here, "alice", planned=("alice",)), entry(group, "staff-x", kind="group", planned=("staff-x",))]
    assert check_host.name_problems([*wanted, entry()], 5) == ([], [])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            entry("alcie", planned=("bob", "alice")),
            (
                'jupyterhub_admin_users = ["alcie"] names a user that is neither in accounts_users nor on the host. '
                "Did you mean alice?"
            ),
        ),
        (
            entry("zzyzx-nobody-has", kind="group"),
            (
                'jupyterhub_admin_groups = ["zzyzx-nobody-has"] names a group that is neither in accounts_groups nor '
                "on the host. Correct it, or add it to accounts_groups."
            ),
        ),
        (
            # To getent(1) these would be an option and the number of a user who exists.
            entry("--help-me-nobody"),
            (
                'jupyterhub_admin_users = ["--help-me-nobody"] names a user that is neither in accounts_users nor on '
                "the host. Correct it, or add it to accounts_users."
            ),
        ),
        (
            entry("0"),
            (
                'jupyterhub_admin_users = ["0"] names a user that is neither in accounts_users nor on the host. '
                "Correct it, or add it to accounts_users."
            ),
        ),
    ],
)
def test_a_name_that_nobody_has(wanted: dict[str, Any], message: str) -> None:
    assert check_host.name_problems([wanted], 5) == ([message], [])


def test_a_name_that_a_provider_may_send_is_a_warning() -> None:
    groups = entry("zzyzx-nobody-has", "stuff-x", kind="group", planned=("staff-x",)) | {"elsewhere": "if it comes"}
    said = 'jupyterhub_admin_groups = ["{}"] names a group that is neither in accounts_groups nor on the host. {}'
    assert check_host.name_problems([groups], 5) == (
        [],
        [
            said.format("zzyzx-nobody-has", "It counts if it comes."),
            said.format("stuff-x", "It counts if it comes. Did you mean staff-x?"),
        ],
    )


def test_a_hanging_directory_neither_blocks_nor_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for getent(1) on a host whose directory does not answer."""
    getent = tmp_path / "getent"
    getent.write_text("#!/bin/sh\nexec sleep 60\n")
    getent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert check_host.name_problems([entry("alice")], 1) == (
        [],
        ["jupyterhub_admin_users could not be checked: the host did not say within 1 s which users it has"],
    )


def test_what_a_misspelt_name_may_mean(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\n+::::::\nnobody:x:65534:65534::/:/bin/false\n"
    )
    (tmp_path / "group").write_text("adm:x:4:\nstaff:x:1005:alice\n")
    assert check_host.people("user", tmp_path) == ["alice"]
    assert check_host.people("group", tmp_path) == ["staff"]


def test_preflight_compares_hub_settings_with_accounts_and_host(tmp_path: Path) -> None:
    """This machine stands for the hub: it is only looked at."""
    hub = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "accounts_users": [{"name": "alice"}, {"name": "bob"}, "no dictionary"],
        "accounts_groups": "no list",
        "jupyterhub_admin_users": ["alcie", "bob"],
        "jupyterhub_allowed_users": 7,
        "jupyterhub_admin_groups": ["jupyter-users", "alice"],
        "jupyterhub_group_limits": [{"group": "phsyics"}, {"memory": "1G"}],
        # Nothing listens there: the sources are refused at once.
        **dict.fromkeys(("base_apt_mirror", "base_python_index_url", "base_npm_registry"), "http://127.0.0.1:1"),
    }
    status, output = preflight(tmp_path, {"hub": {"hosts": {"hub1": hub}}})
    assert status != 0
    for message in (
        (
            'hub1: jupyterhub_admin_users = ["alcie"] names a user that is neither in accounts_users nor on the host. '
            "Did you mean alice?"
        ),
        (
            'hub1: jupyterhub_group_limits = ["phsyics"] names a group that is neither in accounts_groups nor on the '
            "host. "
            "Correct it, or add it to accounts_groups."
        ),
        "hub1: jupyterhub_allowed_users = 7 is a number, but a list of texts is needed.",
        'hub1: accounts_groups = "no list" is a text, but a list of dictionaries is needed.',
    ):
        assert message in output
    assert '["bob"]' not in output
    assert '["alice"]' not in output
    assert '["jupyter-users"]' not in output


def test_names_of_a_provider_stop_nothing(tmp_path: Path) -> None:
    hub = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "jupyterhub_authenticator": "oidc",
        "jupyterhub_oidc_groups_claim": "groups",
        "jupyterhub_admin_users": ["zzyzx-nobody"],
        "jupyterhub_allowed_groups": ["zzyzx-of-the-provider"],
        "jupyterhub_group_limits": [{"group": "zzyzx-of-the-provider", "memory": "1G"}],
        # Nothing listens there: the sources are refused at once.
        **dict.fromkeys(("base_apt_mirror", "base_python_index_url", "base_npm_registry"), "http://127.0.0.1:1"),
    }
    _, output = preflight(tmp_path, {"hub": {"hosts": {"hub1": hub}}})
    for setting in ("jupyterhub_allowed_groups", "jupyterhub_group_limits"):
        assert (
            f'[WARNING]: {setting} = ["zzyzx-of-the-provider"] names a group that is neither in accounts_groups nor on '
            "the host. It counts if the provider sends it in jupyterhub_oidc_groups_claim."
        ) in output
        assert f"hub1: {setting}" not in output
    # Accounts are made elsewhere, so an unknown one is still a mistake.
    assert 'hub1: jupyterhub_admin_users = ["zzyzx-nobody"] names a user' in output
    hub["jupyterhub_oidc_create_accounts"] = True
    _, output = preflight(tmp_path, {"hub": {"hosts": {"hub1": hub}}})
    assert "It counts once the account is made, at the first login." in output
    assert "hub1: jupyterhub_admin_users" not in output


def test_groups_without_members_let_nobody_in() -> None:
    empty = [group.gr_name for group in grp.getgrall() if not group.gr_mem][:2]
    (said,) = check_host.login_warnings(empty, 5)
    assert said.startswith(
        f"Nobody may log in yet: neither the settings nor the group {' or '.join(empty)} names anybody."
    )
    assert check_host.login_warnings([], 5) == []


def test_preflight_warns_when_nobody_may_log_in(tmp_path: Path) -> None:
    nobody = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "accounts_access_group": "zzyzx-group",
        **dict.fromkeys(("base_apt_mirror", "base_python_index_url", "base_npm_registry"), "http://127.0.0.1:1"),
    }
    warning = "[WARNING]: Nobody may log in yet: neither the settings nor the group zzyzx-group names anybody."
    gone = {"accounts_users": [{"name": "eve", "state": "absent"}, {"name": "bot", "access": False}, 7]}
    _, output = preflight(tmp_path, {"hub": {"hosts": {"hub1": nobody | gone}}})
    assert warning in output
    # With somebody, or where others know who there is, nothing is said.
    for somebody in (
        {"accounts_users": [{"name": "ann"}]},
        {"jupyterhub_allow_all": True},
        {"accounts_directory": "ldap"},
        {"jupyterhub_authenticator": "oidc"},
    ):
        _, output = preflight(tmp_path, {"hub": {"hosts": {"hub1": nobody | somebody}}})
        assert "Nobody may log in yet" not in output
