"""A setting whose line has no value is a mistake with a name: nothing reads it as 0, and no check fails at it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.settings.validation import ROOT, facts, messages

ROLES = sorted(path.parts[-3] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
# What these roles would ask the host before they check their settings.
ROOM = {"space_mb": 99999, "files": 20000}
KEY_IS_RIGHT = {"problem": ""}
ASKED = facts(
    eos_room=ROOM,
    cvmfs_room=ROOM,
    signed_repository_campushub_eos=KEY_IS_RIGHT,
    signed_repository_campushub_cvmfs=KEY_IS_RIGHT,
)
SPECIFICATIONS: dict[str, dict[str, Any]] = {
    role: yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    for role in ROLES
}
NOTHING = {
    "list": "Write [] for none.",
    "dict": "Write {} for none.",
    "str": 'Write "" for none, or leave the line out for the default.',
}
NOTHING["path"] = NOTHING["str"]


def expected(name: str, option: dict[str, Any]) -> str:
    """Return how the message about an empty setting begins and ends."""
    remedy = "Leave the line out for the default."
    if "choices" not in option or option["type"] == "list":
        remedy = NOTHING.get(option["type"], remedy)
    return f"{name}{'' if option.get('no_log') else ' = null'} is empty, but … is needed. {remedy}"


@pytest.mark.parametrize("role", ROLES)
def test_an_empty_setting_is_refused_by_name(role: str) -> None:
    options = SPECIFICATIONS[role]
    # A name of a host has no underscore.
    hosts = {name.replace("_", "-"): {name: None, "facts": ASKED} for name in options}
    said = messages(role, hosts)
    for name, option in options.items():
        begin, end = expected(name, option).split("…")
        assert [
            text for text in said[name.replace("_", "-")] if text.startswith(begin) and f"{end} See docs/" in text
        ], said[name.replace("_", "-")]


def test_an_empty_list_of_administrators_is_named_alone() -> None:
    empty = {"jupyterhub_admin_users": None, "jupyterhub_profiles": None, "jupyterhub_cpu_limit": None}
    said = messages("jupyterhub", {"server": empty})["server"]
    assert sorted(text.partition(". ")[0] for text in said) == [
        "jupyterhub_admin_users = null is empty, but a list of texts is needed",
        "jupyterhub_cpu_limit = null is empty, but a number is needed",
        "jupyterhub_profiles = null is empty, but a list of dictionaries is needed",
    ]


@pytest.mark.parametrize("role", ROLES)
def test_no_setting_is_empty_by_default(role: str) -> None:
    defaults = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())
    assert not [name for name, value in defaults.items() if value is None]
