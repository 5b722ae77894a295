"""Former names of settings: the new name is named, and the value counts, for one release."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.settings.validation import PRINTING, ROOT, defaults, facts, printed

RENAMED: dict[str, str] = yaml.safe_load((ROOT / "plugins/module_utils/renamed_settings.yml").read_text())
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    name: (path.parts[-3], option)
    for path in ROOT.glob("roles/*/meta/argument_specs.yml")
    for name, option in yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"].items()
}


def value_of(name: str) -> Any:
    """Return a value of the right type that is not the default."""
    role, option = OPTIONS[name]
    default = defaults(role)[name]
    if "choices" in option:
        return next(choice for choice in option["choices"] if choice != default)
    return {"bool": not default, "int": 7, "float": 7.0, "list": ["/srv/other"]}.get(option["type"], "/srv/other")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Check a host for each former name as the preflight checks do; return the values then, and what was printed."""
    directory = tmp_path_factory.mktemp("renamed")
    hosts = {old: {old: value_of(new), **facts()} for old, new in RENAMED.items()}
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    preflight = yaml.safe_load((ROOT / "playbooks/preflight.yml").read_text())
    apply = next(task for task in preflight[-1]["tasks"] if "renamed" in str(task.get("args")))
    roles = {old: OPTIONS[new][0] for old, new in RENAMED.items()}
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars": {"roles": roles, "renamed": RENAMED, "preflight_collect": True},
        "tasks": [
            {
                "check_settings": {
                    "role": "{{ roles[inventory_hostname] }}",
                    "rules": [{"variable": "x", "that": "true"}],
                }
            },
            apply,
            {"ansible.builtin.debug": {"msg": {"value": "{{ lookup('vars', renamed[inventory_hostname]) }}"}}},
        ],
    }
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    command = [
        sys.executable,
        "-m",
        "ansible",
        "playbook",
        "-i",
        str(directory / "hosts.yml"),
        str(directory / "play.yml"),
    ]
    done = subprocess.run(command, cwd=ROOT, env=PRINTING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return printed(done.stdout), re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.mark.parametrize("old", RENAMED)
def test_former_names_count_and_the_new_one_is_named(run: tuple[dict[str, Any], str], old: str) -> None:
    values, output = run
    assert old not in OPTIONS
    assert values[old]["value"] == value_of(RENAMED[old])
    assert f"{old} is called {RENAMED[old]} now. Rename it in the inventory." in output


def test_inventories_have_no_former_name() -> None:
    texts = {path: path.read_text() for path in (ROOT / "inventories").glob("*/**/*.yml")}
    found = [f"{path}: {old}" for path, text in texts.items() for old in RENAMED if re.search(rf"\b{old}\b", text)]
    assert found == []
