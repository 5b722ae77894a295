"""The example inventories show every setting there is, and what they say of it is true."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.settings.validation import PRINTING, defaults

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ["single-server", "cluster"]
# What a new site decides is said at the top, with a value that need not be the role's default.
DECIDED = {"web_server_name", "web_tls_mode", "jupyterhub_admin_users", "jupyterhub_allowed_groups"}
# Not for an inventory: removal is a playbook, and what one role knows of another is wired in playbooks/group_vars.
WIRED = runpy.run_path(str(ROOT / "docs/generate.py"))["WIRED"]


def roles() -> list[str]:
    return sorted(path.parts[-3] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))


def options(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())
    found: dict[str, Any] = specs["argument_specs"]["main"]["options"]
    return found


def shown(inventory: str) -> dict[str, Any]:
    """Settings in an example's file, those in comments too."""
    text = (ROOT / f"inventories/{inventory}/group_vars/all.yml").read_text()
    pattern = re.compile(rf"^(?:# )?((?:{'|'.join(roles())})_[a-z0-9_]+): (.*)$", re.MULTILINE)
    found = pattern.findall(text)
    assert len(found) == len({name for name, _ in found}), "a setting is shown twice"
    return {name: yaml.safe_load(value) for name, value in found}


@pytest.mark.parametrize("inventory", EXAMPLES)
def test_every_setting_is_shown_and_none_that_does_not_exist(inventory: str) -> None:
    known = {name for role in roles() for name in options(role) if name != f"{role}_state"}
    assert set(shown(inventory)) == known - WIRED


@pytest.mark.parametrize("inventory", EXAMPLES)
def test_values_shown_are_the_defaults(inventory: str) -> None:
    true = {name: value for role in roles() for name, value in defaults(role).items()}
    said = {name: value for name, value in shown(inventory).items() if name not in DECIDED}
    assert said == {name: true.get(name) for name in said}


@pytest.mark.parametrize("role", roles())
def test_every_default_is_a_documented_setting(role: str) -> None:
    assert set(defaults(role)) <= set(options(role))


@pytest.mark.parametrize("inventory", EXAMPLES)
def test_a_file_is_valid_and_sets_only_decisions_of_the_site(inventory: str) -> None:
    values = yaml.safe_load((ROOT / f"inventories/{inventory}/group_vars/all.yml").read_text())
    assert set(values) <= DECIDED


@pytest.mark.parametrize("inventory", [*EXAMPLES, "demo"])
def test_an_inventory_has_every_group_so_that_runs_warn_of_none(inventory: str) -> None:
    plays = yaml.safe_load((ROOT / "playbooks/preflight.yml").read_text())
    (report,) = (task["preflight_report"] for task in plays[-1]["tasks"] if "preflight_report" in task)
    hosts = yaml.safe_load((ROOT / f"inventories/{inventory}/hosts.yml").read_text())
    assert set(hosts["all"]["children"]) == set(report["groups"])


def test_examples_differ_in_what_a_site_decides_only() -> None:
    parts = [(ROOT / f"inventories/{name}/group_vars/all.yml").read_text().partition("# === ")[2] for name in EXAMPLES]
    assert parts[0] == parts[1] != ""


@pytest.mark.parametrize("file", ["group_vars/all.yml", "preflight.yml", "tasks/hub_status.yml"])
def test_playbooks_repeat_the_defaults_of_the_roles(file: str) -> None:
    """A role's default is not seen outside of the role, so playbooks say again what they need."""
    true = {name: value for role in roles() for name, value in defaults(role).items()}
    text = (ROOT / "playbooks" / file).read_text()
    found = re.findall(r"\b([a-z]+_[a-z_]+) \| default\((\d+|'[\w-]+')\)", text)
    repeated = [(name, value.strip("'")) for name, value in found if name in true]
    assert repeated
    assert repeated == [(name, str(true[name])) for name, _ in repeated]


def test_status_looks_at_every_host() -> None:
    """Also at those that are in no group but one for storage or displays."""
    command = ["-i", "inventories/cluster", "playbooks/status.yml", "--list-hosts"]
    listed = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", *command],
        cwd=ROOT,
        env=PRINTING,
        capture_output=True,
        text=True,
        check=True,
    )
    first = listed.stdout.partition("play #2")[0]
    assert set(re.findall(r"\w+[.]example[.]org", first)) == {
        f"{name}.example.org" for name in ("hub1", "node01", "node02", "cache1", "cache2")
    }
