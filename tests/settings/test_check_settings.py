"""What check_settings says about wrong values, as an administrator reads it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.action.check_settings import PLATFORMS, Types, platform_errors, unknown_names, without_secrets

ROOT = Path(__file__).resolve().parents[2]

LIMITS = {
    "type": "dict",
    "options": {
        "memory": {"type": "str", "required": True},
        "tasks": {"type": "int"},
        "token": {"type": "str", "no_log": True},
        "servers": {"type": "list", "elements": "dict", "options": {"cpu": {"type": "float"}}},
    },
}
SEE = "See docs/reference/settings/hub.md."


@pytest.mark.parametrize(
    ("value", "option", "message"),
    [
        (
            {"a": 1},
            {"type": "list", "elements": "str"},
            f'x = {{"a": 1}} is a dictionary, but a list of texts is needed. {SEE}',
        ),
        (
            "a,b",
            {"type": "list", "elements": "str"},
            f'x = "a,b" is a text, but a list of texts is needed. Begin a line with a dash for each entry. {SEE}',
        ),
        (None, {"type": "list", "default": []}, f"x = null is empty, but a list is needed. Write [] for none. {SEE}"),
        (
            None,
            {"type": "dict", "default": {}},
            f"x = null is empty, but a dictionary is needed. Write {{}} for none. {SEE}",
        ),
        (
            None,
            {"type": "str", "default": ""},
            f'x = null is empty, but a text is needed. Write "" for none, or leave the line out for the default. {SEE}',
        ),
        (
            None,
            {"type": "int", "default": 0},
            f"x = null is empty, but a whole number is needed. Leave the line out for the default. {SEE}",
        ),
        (False, {"type": "str"}, f"x = false is true or false, but a text is needed. Put it in quotes. {SEE}"),
        ([1], {"type": "str"}, f"x = [1] is a list, but a text is needed. {SEE}"),
        ("many", {"type": "int"}, f'x = "many" is a text, but a whole number is needed. {SEE}'),
        (1.5, {"type": "int"}, f"x = 1.5 is a number, but a whole number is needed. {SEE}"),
        ("perhaps", {"type": "bool"}, f'x = "perhaps" is a text, but true or false is needed. {SEE}'),
        ([1], {"type": "dict"}, f"x = [1] is a list, but a dictionary is needed. {SEE}"),
        (["a", ["b"]], {"type": "list", "elements": "str"}, f'x[1] = ["b"] is a list, but a text is needed. {SEE}'),
        (
            "presnt",
            {"type": "str", "choices": ["present", "absent"]},
            'x = "presnt" is none of present, absent. Did you mean present?',
        ),
        (["z"], {"type": "list", "elements": "str", "choices": ["a", "b"]}, f'x[0] = "z" is none of a, b. {SEE}'),
        ({"memory": "1G", "task": 5}, LIMITS, "x.task is no setting of x. Did you mean tasks?"),
        ({"memory": "1G", "zzzz": 5}, LIMITS, "x.zzzz is no setting of x. There are memory, tasks, token, servers."),
        ({}, LIMITS, f"x.memory is missing. {SEE}"),
        (
            {"memory": "1G", "servers": [{"cpu": 1}, {"cpu": "two"}]},
            LIMITS,
            f'x.servers[1].cpu = "two" is a text, but a number is needed. {SEE}',
        ),
        ({"memory": "1G", "token": ["s3cret"]}, LIMITS, f"x.token is a list, but a text is needed. {SEE}"),
        ("s3cret", {"type": "int", "no_log": True}, f"x is a text, but a whole number is needed. {SEE}"),
        ("s3cret", {"type": "str", "no_log": True, "choices": ["a"]}, f"x is none of a. {SEE}"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_needed(value: Any, option: dict[str, Any], message: str) -> None:
    types = Types("hub")
    types.check("x", value, option)
    assert types.errors == [message]


@pytest.mark.parametrize(
    ("value", "option"),
    [
        ("5", {"type": "int"}),
        (5, {"type": "str"}),
        (2, {"type": "float"}),
        ("yes", {"type": "bool"}),
        (None, {"type": "str"}),
        ([], {"type": "list", "elements": "str", "default": ["a"]}),
        (["a"], {"type": "list", "elements": "str", "choices": ["a", "b"]}),
        ({"anything": 1}, {"type": "dict"}),
        ([1, "a"], {"type": "list"}),
        ({"memory": "1G", "tasks": None}, LIMITS),
    ],
)
def test_a_value_that_a_role_can_use_is_accepted(value: Any, option: dict[str, Any]) -> None:
    types = Types("hub")
    types.check("x", value, option)
    assert types.errors == []


def test_a_misspelt_name_is_found_and_own_variables_are_not() -> None:
    known = {"web_server_name", "web_certificate"}
    names = [
        "web_servername",
        "web_colour_of_the_sky",
        "wed_server_name",
        "my_own",
        "hub_port",
        "_web_x",
        "certificate",
    ]
    assert unknown_names("web", names, known, {"hub_port"}) == [
        ("web_colour_of_the_sky", None),
        ("web_servername", "web_server_name"),
        ("wed_server_name", "web_server_name"),
    ]


SPECIFICATION = {
    "hub_users": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "uid": {"type": "int"},
            "hash": {"type": "str", "no_log": True},
        },
    },
    "hub_limits": {"type": "dict"},
    "hub_port": {"type": "int"},
    "hub_key": {"type": "str", "no_log": True},
}
RULES = [
    {
        "variable": "hub_users[].uid",
        "each": "hub_users",
        "that": "item.uid | default(2000) | int >= hub_port | default(1000)",
        "problem": "is too small",
        "remedy": "Give a larger one.",
    },
    {
        "variable": "hub_users[].hash",
        "each": "hub_users",
        "that": "item.hash is not defined",
        "secret": True,
        "problem": "is no hash",
        "remedy": "Make one.",
    },
    {
        "variable": "hub_limits[]",
        "each": "hub_limits | default({})",
        "that": "item is match('[0-9]+G$') and index != 'root'",
        "problem": "is no size",
        "remedy": "Write 2G.",
    },
    {
        "variable": "hub_key",
        "that": "hub_key | default('long') | length > 3",
        "secret": True,
        "problem": "is short",
        "remedy": "Make it longer.",
    },
]
HOSTS: dict[str, dict[str, Any]] = {
    "good": {"hub_users": [{"name": "ann", "uid": 1001}], "hub_limits": {"a": "2G"}, "hub_key": "abcd"},
    "bad": {
        "hub_users": [{"name": "ann", "uid": 5}, {"name": "bob", "hash": "s3cret"}],
        "hub_limits": {"staff": "2 gigs"},
        "hub_key": "abc",
    },
    "mistyped": {
        "hub_users": [{"name": "ann", "uid": "x"}, {"name": "bob", "uid": 5}],
        "hub_port": ["y"],
        "hub_limits": [1],
    },
    "template": {"hub_users": "{{ nowhere }}"},
}


DEBIAN = {"Debian": ["12", "13"]}
ALL = {**DEBIAN, "Ubuntu": ["22.04", "24.04"], "EL": ["9"]}


def host(name: str, version: str) -> dict[str, str]:
    """The facts of a host, as far as they tell its distribution."""
    return {
        "distribution": name,
        "distribution_version": version,
        "distribution_major_version": version.partition(".")[0],
    }


@pytest.mark.parametrize(
    ("platforms", "facts"),
    [
        (ALL, host("Debian", "12.11")),
        (ALL, host("Ubuntu", "24.04")),
        (ALL, host("OracleLinux", "9.6")),
        (ALL, {}),
        ({}, host("Fedora", "42")),
    ],
    ids=["debian", "ubuntu", "el", "no answer", "no list"],
)
def test_a_supported_distribution_is_no_mistake(platforms: dict[str, list[str]], facts: dict[str, str]) -> None:
    assert platform_errors(platforms, facts) == []


@pytest.mark.parametrize(
    ("platforms", "facts", "message"),
    [
        (
            ALL,
            host("Ubuntu", "23.10"),
            (
                'distribution = "Ubuntu 23.10" is not supported. Use Debian 12 or 13, Ubuntu 22.04 or 24.04, or '
                "Enterprise Linux 9 (RHEL, Rocky, AlmaLinux, CentOS Stream, Oracle)."
            ),
        ),
        # Of the family, but none that is meant by Enterprise Linux.
        ({"EL": ["9"], "Debian": ["13"]}, host("Fedora", "9"), 'distribution = "Fedora 9" is not supported. Use '),
        (DEBIAN, host("Rocky", "9.5"), 'distribution = "Rocky 9" is not supported. Use Debian 12 or 13.'),
    ],
    ids=["release", "family", "other"],
)
def test_another_distribution_is_named_with_those_supported(
    platforms: dict[str, list[str]], facts: dict[str, str], message: str
) -> None:
    (error,) = platform_errors(platforms, facts)
    assert error.startswith(message)


def test_roles_name_releases_that_have_a_number() -> None:
    versions = {version for platforms in PLATFORMS.values() for found in platforms.values() for version in found}
    assert versions
    assert not [version for version in versions if not version.replace(".", "").isdigit()]


def test_messages_hide_secrets_at_any_depth() -> None:
    options = {
        "token": {"type": "str", "no_log": True},
        "clients": {"type": "list", "elements": "dict", "options": {"keys": {"type": "dict", "no_log": True}}},
    }
    values = {"token": "s3cret", "clients": [{"keys": {"a": ["hidden", 4711]}}, {}], "port": 80}
    assert without_secrets("s3cret hidden 4711 80", options, values) == "… … … 80"
    assert without_secrets("nothing given", options, {"token": ""}) == "nothing given"


def test_rules_apply_to_each_entry_and_all_mistakes_are_shown(tmp_path: Path) -> None:
    for plugin in ("action/check_settings.py", "modules/check_settings.py", "filter/source_file.py"):
        (tmp_path / "plugins" / plugin).parent.mkdir(parents=True)
        shutil.copy(ROOT / "plugins" / plugin, tmp_path / "plugins" / plugin)
    (tmp_path / "plugins" / "module_utils").mkdir()
    shutil.copy(ROOT / "plugins/module_utils/renamed_settings.yml", tmp_path / "plugins/module_utils")
    specification = tmp_path / "roles/hub/meta/argument_specs.yml"
    specification.parent.mkdir(parents=True)
    specification.write_text(yaml.safe_dump({"argument_specs": {"main": {"options": SPECIFICATION}}}, sort_keys=False))
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\n"
        + "".join(
            f"{setting} = {tmp_path}/plugins/{folder}\n"
            for setting, folder in (("action_plugins", "action"), ("library", "modules"), ("filter_plugins", "filter"))
        )
    )
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": HOSTS}}))
    task = {"check_settings": {"role": "hub", "rules": RULES}, "register": "said", "ignore_errors": True}
    answer = {
        "ansible.builtin.debug": {
            "msg": "{{ inventory_hostname }}: failed={{ said is failed }} {{ said.errors | to_json }}"
        }
    }
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task, answer]}])
    )
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "play.yml"],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = {}
    for line in run.stdout.splitlines():
        if line.strip().startswith('"msg": "') and "failed=" in line:
            host, _, text = yaml.safe_load(line.strip().removeprefix('"msg": ')).partition(": ")
            failed, _, errors = text.partition(" ")
            said[host] = (failed, yaml.safe_load(errors))
    assert said == {
        "good": ("failed=False", []),
        "bad": (
            "failed=True",
            [
                "bad: hub_users[0].uid = 5 (ann) is too small. Give a larger one.",
                "bad: hub_users[1].hash (bob) is no hash. Make one.",
                'bad: hub_limits["staff"] = "2 gigs" is no size. Write 2G.',
                "bad: hub_key is short. Make it longer.",
            ],
        ),
        "mistyped": (
            "failed=True",
            [
                f'mistyped: hub_users[0].uid = "x" is a text, but a whole number is needed. {SEE}',
                f"mistyped: hub_limits = [1] is a list, but a dictionary is needed. {SEE}",
                f'mistyped: hub_port = ["y"] is a list, but a whole number is needed. {SEE}',
            ],
        ),
        "template": ("failed=True", ["template: hub_users cannot be worked out: 'nowhere' is undefined"]),
    }, run.stdout + run.stderr
    assert "s3cret" not in run.stdout
    assert "abc" not in run.stdout
