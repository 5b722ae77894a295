"""What holds for the project as a whole: settings are described and locks agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.settings.validation import defaults

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parent.parent for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
LOCKS = sorted(
    [*ROOT.glob("requirements.txt"), *ROOT.glob("tests/requirements.txt"), *ROOT.glob("roles/*/files/**/*.txt")]
)


def load(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def options(role: Path) -> dict[str, Any]:
    return dict(load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {}))


def pins(lock: Path) -> set[tuple[str, str, str]]:
    """Return name, version and condition of each package; a lock may have a version for each Python."""
    return set(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)(?: ; (.+?))?(?: \\)?$", lock.read_text(), re.MULTILINE))


def test_every_role_describes_its_settings() -> None:
    roles = {path.parent.parent.name for path in ROOT.glob("roles/*/tasks/main.yml")}
    assert roles == {role.name for role in ROLES}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_settings_bear_the_name_of_their_role(role: Path) -> None:
    wrong = [name for name in options(role) if not name.startswith(f"{role.name}_")]
    assert not wrong
    internal = load(role / "vars" / "main.yml")
    assert not [name for name in internal if not name.startswith(f"__{role.name}_")]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_descriptions_are_of_the_same_settings(role: Path) -> None:
    described, found = options(role), defaults(role.name)
    assert set(found) <= set(described)
    for name, option in described.items():
        assert option.get("description"), f"{name} has no description"
        text = " ".join(option["description"]) if isinstance(option["description"], list) else option["description"]
        if name not in found:
            assert option.get("required") or "When not set" in text, f"{name} has no default in defaults/main.yml"
        elif "default" in option:
            assert option["default"] == found[name], f"{name} has two different defaults"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_locks_have_a_hash_for_each_package_and_no_address(lock: Path) -> None:
    if lock.with_suffix(".in").exists():
        text = lock.read_text()
        entries = re.split(r"^(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text), flags=re.MULTILINE)[1:]
        assert entries
        assert not [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]
        assert "://" not in "".join(entries), "an address in a lock breaks mirrors"
        wanted = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", lock.with_suffix(".in").read_text(), re.MULTILINE)
        locked = {name.lower().replace("_", "-") for name, _, _ in pins(lock)}
        assert {name.lower().replace("_", "-") for name in wanted} <= locked


def test_tests_run_with_what_the_controller_runs_with() -> None:
    # A package that both have may be for all in one and for some Pythons in the other.
    controller, tests = (
        {(name, version) for name, version, _ in pins(ROOT / lock)}
        for lock in ("requirements.txt", "tests/requirements.txt")
    )
    assert controller
    assert controller <= tests


@pytest.mark.parametrize(("python", "ansible"), [("< '3.12'", "2.19."), (">= '3.12'", "2.21.")])
def test_each_python_gets_its_newest_ansible(python: str, ansible: str) -> None:
    found = [
        version
        for name, version, marker in pins(ROOT / "requirements.txt")
        if (name, marker) == ("ansible-core", f"python_full_version {python}")
    ]
    assert len(found) == 1
    assert found[0].startswith(ansible)


def test_scripts_can_be_run() -> None:
    scripts = ["campushub", ".ci/run", "tests/run", "docs/generate.py", "tests/hosts/testhost"]
    for script in scripts:
        path = ROOT / script
        assert path.stat().st_mode & 0o111, f"{script} is not executable"
        assert path.read_text().startswith("#!/usr/bin/env ")


def test_inventories_explain_each_setting() -> None:
    """A setting without a comment above it, or above the group of settings it stands in, explains nothing."""
    for path in ROOT.glob("inventories/*/group_vars/*.yml"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.match(r"[a-z_]+:", line):
                above = number
                while above and lines[above].strip() and not lines[above].startswith("#"):
                    above -= 1
                assert lines[above].startswith("#"), f"{path.relative_to(ROOT)}:{number + 1} {line} has no comment"


def test_every_page_has_words_for_each_reason_of_an_end() -> None:
    """The hub's pages, and those of a server that are still open."""
    hub = ROOT / "files/campushub_hub/src/campushub_hub"
    known = set(re.findall(r'^    "(\w+)": _\(', (hub / "templates/end_reason.html").read_text(), re.MULTILINE))
    source = (ROOT / "files/campushub_session/src/end.ts").read_text().partition("private farewell(")[2]
    assert known == set(re.findall(r"case '(\w+)':", source))
    of_jobs = (hub / "spawners/slurm.py").read_text().partition("REASONS = {")[2].partition("}")[0]
    assert set(re.findall(r': "(\w+)"', of_jobs)) < known
