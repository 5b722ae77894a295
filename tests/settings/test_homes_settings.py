"""Every message of role homes about its settings, settings that it takes, and what it writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.settings.validation import ROOT, answered_otherwise, facts, run_for, wired

LAYOUT = "Write it like /eos/user/{first_letter}/{login}; other words in braces are not known."
COMMAND = "Write it like [/usr/local/sbin/make-home, '{login}'], a program on the host and its arguments."
LOCAL = "Use /var/lib/campushub-homes, or a directory like it on a larger disk of the host."
NO_PATH = "is no absolute path of letters, digits and words in braces."
ONE_HOME = "has no {login}, so that all users would have one home."
SHUT_IN = "is where the hub, which is shut in, can make nothing that stays."

BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "relative": ({"homes_layout": "eos/{login}"}, [f'homes_layout = "eos/{{login}}" {NO_PATH} {LAYOUT}']),
    "unknown-word": (
        {"homes_layout": "/eos/{group}/{login}"},
        [f'homes_layout = "/eos/{{group}}/{{login}}" {NO_PATH} {LAYOUT}'],
    ),
    "up": ({"homes_layout": "/eos/../{login}"}, [f'homes_layout = "/eos/../{{login}}" {NO_PATH} {LAYOUT}']),
    "one-home": (
        {"homes_layout": "/eos/user/{first_letter}"},
        [f'homes_layout = "/eos/user/{{first_letter}}" {ONE_HOME} {LAYOUT}'],
    ),
    "mount": (
        {"homes_mount_point": "/eos/"},
        ['homes_mount_point = "/eos/" is no absolute path. Write it without a slash at its end, such as /eos/user.'],
    ),
    "mount-elsewhere": (
        {"homes_mount_point": "/eos/use", "homes_layout": "/eos/user/{login}"},
        [
            (
                'homes_mount_point = "/eos/use" is not above the homes of homes_layout, /eos/user/{login}. '
                "Name the directory at which the file system of the homes is mounted, or leave it empty."
            )
        ],
    ),
    "deadline": (
        {"homes_check_timeout": 0},
        ["homes_check_timeout = 0 is no time that a user would wait. Give 1 to 30 seconds; 5 is usual."],
    ),
    "long-deadline": (
        {"homes_check_timeout": 31},
        ["homes_check_timeout = 31 is no time that a user would wait. Give 1 to 30 seconds; 5 is usual."],
    ),
    "when-down": (
        {"homes_on_unavailable": "wait"},
        ['homes_on_unavailable = "wait" is none of refuse, scratch. See docs/reference/settings/homes.md.'],
    ),
    "nothing-to-watch": (
        {"homes_watch": "remount"},
        [
            (
                'homes_watch = "remount" has nothing to watch, for homes_mount_point is empty. '
                "Name the directory at or below which the homes are mounted, or say log."
            )
        ],
    ),
    "metrics": (
        {"homes_watch_metrics": "/var/lib/metrics"},
        [
            (
                'homes_watch_metrics = "/var/lib/metrics" is no absolute path of a file that the collector reads. '
                "Write it with .prom at its end, such as /var/lib/prometheus/node-exporter/campushub_mounts.prom."
            )
        ],
    ),
    "command": (
        {"homes_create_command": ["make-home", "{login}"]},
        [
            (
                'homes_create_command = ["make-home", "{login}"] does not begin with the whole path of a program. '
                f"{COMMAND}"
            )
        ],
    ),
    "whose": (
        {"homes_create_command": ["/sbin/make-home", "now"]},
        [
            (
                'homes_create_command = ["/sbin/make-home", "now"] does not say whose home it is to make, '
                f"for no argument has {{login}}, {{uid}} or {{home}}. {COMMAND}"
            )
        ],
    ),
    "local": (
        {"homes_local_directory": "/var/lib/../x"},
        [f'homes_local_directory = "/var/lib/../x" is no absolute path. {LOCAL}'],
    ),
    "local-home": (
        {"homes_local_directory": "/home/local"},
        [f'homes_local_directory = "/home/local" {SHUT_IN} {LOCAL}'],
    ),
    "local-tmp": (
        {"homes_local_directory": "/var/tmp/x"},
        [f'homes_local_directory = "/var/tmp/x" {SHUT_IN} {LOCAL}'],
    ),
    "local-remote": (
        {"homes_local_directory": "/eos/user/local", "homes_layout": "/eos/user/{first_letter}/{login}"},
        [f'homes_local_directory = "/eos/user/local" is among the homes, on the network file system itself. {LOCAL}'],
    ),
    "local-below-mount": (
        {"homes_local_directory": "/net/local", "homes_mount_point": "/net"},
        [
            (
                'homes_local_directory = "/net/local" is below homes_mount_point, on the network file system itself. '
                f"{LOCAL}"
            )
        ],
    ),
    "days": (
        {"homes_local_max_age_days": -1},
        [
            (
                "homes_local_max_age_days = -1 is no number of days. "
                "Give the days after which unused files are removed, such as 30; 0 is never."
            )
        ],
    ),
}

GOOD: dict[str, dict[str, Any]] = {
    "defaults": {},
    "eos": {"homes_layout": "/eos/user/{first_letter}/{login}", "homes_mount_point": "/eos/user"},
    "parts": {"homes_layout": "/net/u-{login}/home", "homes_mount_point": "/net", "homes_on_unavailable": "scratch"},
    "command": {"homes_create_command": ["/usr/bin/ssh", "storage.example.org", "make-home {login}"]},
    "watched": {"homes_watch": "remount", "homes_mount_point": "/net"},
    "never": {
        "homes_watch": "none",
        "homes_local_max_age_days": 0,
        "homes_local_directory": "/srv/local",
        "homes_check_timeout": 30,
    },
    # What is not used is not looked at.
    "absent": {"homes_state": "absent", "homes_layout": "x"},
}


def test_every_message_and_what_is_taken() -> None:
    assert not answered_otherwise("homes", {**BAD, **{name: (settings, []) for name, settings in GOOD.items()}})


def test_the_hub_finds_all_that_it_reads_in_the_document() -> None:
    session = (ROOT / "files/campushub_hub/src/campushub_hub/host/user_session.py").read_text()
    (read,) = re.findall(r"class Homes\(TypedDict\):.*?\n\n(.*?)\n\n\n", session, re.DOTALL)
    written = yaml.safe_load((ROOT / "roles/homes/vars/main.yml").read_text())["__homes_document"]
    former = {"deadline": written["check_timeout"], "when_down": written["on_unavailable"]}
    assert {key: written.pop(key) for key in former} == former
    assert set(re.findall(r"^    (\w+):", read, re.MULTILINE)) == set(written) - {"comment"}


def test_a_watch_that_a_run_has_left_is_stopped_later() -> None:
    """As the next run finds it: its files are gone, and it still runs."""
    (task,) = (task for task in yaml.safe_load((ROOT / "roles/homes/tasks/deploy.yml").read_text()) if "when" in task)
    there, none = (facts(campushub={"markers": markers}) for markers in ([task["vars"]["__homes_link"]], []))
    off = {"homes_watch": "none", **task["vars"]}
    hosts = {
        "left": {**off, "facts": there},
        "nothing": {**off, "facts": none},
        "unknown": {**off, "facts": facts()},
        "absent": {**off, "homes_state": "absent", "facts": there},
        "watched": {**task["vars"], "homes_mount_point": "/net", "homes_layout": "/net/{login}", "facts": none},
    }
    found = run_for("homes", hosts, {}, task["when"])
    assert found == {"left": True, "nothing": False, "unknown": True, "absent": True, "watched": True}


def test_accounts_have_the_homes_of_the_layout_and_make_none(tmp_path: Path) -> None:
    layout = "/eos/user/{first_letter}/{login}"
    groups = {
        "hub": {"hosts": {"hub1": {}, "hub2": {}}, "vars": {"accounts_directory": "ldap"}},
        "network_homes": {"hosts": {"hub1": {"homes_layout": layout}, "node1": {"accounts_directory": "ldap"}}},
    }
    names = ("accounts_home_template", "accounts_create_homes", "jupyterhub_create_homes")
    said = wired(tmp_path, {"all": {"children": groups}}, names)
    assert {host: list(found.values()) for host, found in said.items()} == {
        "hub1": ["/eos/user/%l/%u", False, False],
        "hub2": ["", True, True],
        "node1": ["", False, False],
    }
