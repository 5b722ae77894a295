"""Roles read their own variables only, and their vars are names and paths: logic has places where it can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import pytest
import yaml

from plugins.modules.cvmfs_client import HANGING

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
LONGEST_VARS = 100  # lines of roles/*/vars/main.yml
MOST_STATEMENTS = 20  # of Jinja in all of them
# Expressions of Ansible that stand without braces.
EXPRESSIONS = {"changed_when", "each", "failed_when", "that", "until", "when"}
# Ansible's own variables and functions, and those of loops and rules.
GIVEN = {
    *("ansible_check_mode", "ansible_facts", "ansible_play_hosts", "ansible_play_hosts_all", "ansible_playbook_python"),
    *(
        "group_names",
        "groups",
        "hostvars",
        "inventory_hostname",
        "omit",
        "role_path",
        "index",
        "item",
        "lookup",
        "query",
    ),
}


class AnyName(dict[str, Any]):
    """Filters and tests of any name; here they are not called."""

    def get(self, key: str, _default: Any = None) -> Any:
        return super().get(key, str)


def environment() -> jinja2.Environment:
    """Return what reads templates without knowing the filters of Ansible and of roles."""
    env = jinja2.Environment(autoescape=False)  # noqa: S701 (nothing is rendered)
    env.filters, env.tests = AnyName(env.filters), AnyName(env.tests)
    return env


JINJA = environment()


def templates(value: object, key: str = "") -> Iterator[str]:
    """Yield all templates in a document."""
    if isinstance(value, str):
        yield f"{{{{ {value} }}}}" if key in EXPRESSIONS else value
    elif isinstance(value, list):
        for entry in value:
            yield from templates(entry, key)
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from templates(entry, str(name))


def local_names(value: object) -> Iterator[str]:
    """Yield the variables that tasks and templates have for themselves or hand on to a template."""
    if isinstance(value, str):
        yield from re.findall(r"template_vars=\{'(\w+)'", value)
        yield from re.findall(r"\{%-? set (\w+) =", value)
    elif isinstance(value, list):
        for entry in value:
            yield from local_names(entry)
    elif isinstance(value, dict):
        yield from value["vars"] if isinstance(value.get("vars"), dict) else ()
        for entry in value.values():
            yield from local_names(entry)


def read_variables(role: Path) -> dict[str, set[str]]:
    """Return the variables that the files of a role read, without those that they have for themselves."""
    read: dict[str, set[str]] = {}
    own: set[str] = set()
    for path in role.rglob("*"):
        if path.suffix == ".yml" and path.parent.name in ("tasks", "handlers", "defaults", "vars", "meta"):
            document = yaml.safe_load(path.read_text())
        elif path.suffix == ".j2":
            document = path.read_text()
        else:
            continue
        texts = list(templates(document))
        own |= set(local_names(document))
        parsed = [jinja2.meta.find_undeclared_variables(JINJA.parse(text)) for text in texts if "{" in text]
        read[str(path.relative_to(ROOT))] = set().union(*parsed)
    return {path: names - own for path, names in read.items()}


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # in regular expressions
@pytest.mark.parametrize("role", ROLES)
def test_roles_read_no_variable_of_others(role: str) -> None:
    read = read_variables(ROOT / "roles" / role)
    assert read
    own = re.compile(rf"(__)?{role}_")
    foreign = {path: {name for name in names - GIVEN if not own.match(name)} for path, names in read.items()}
    assert not {path: names for path, names in foreign.items() if names}


def test_vars_are_short_and_without_programs() -> None:
    texts = {path.parts[-3]: path.read_text() for path in ROOT.glob("roles/*/vars/*")}
    assert len(texts) >= 10
    assert not {role for role, text in texts.items() if len(text.splitlines()) > LONGEST_VARS}
    assert sum(text.count("{%") for text in texts.values()) <= MOST_STATEMENTS


APPLIED = [role for role in ROLES if (ROOT / "roles" / role / "meta" / "argument_specs.yml").exists()]


@pytest.mark.parametrize("role", APPLIED)
def test_a_role_is_everywhere_it_must_be(role: str) -> None:
    for playbook in ("site.yml", "playbooks/preflight.yml", "playbooks/remove.yml", "docs/generate.py"):
        assert re.search(rf"\b{role}\b", (ROOT / playbook).read_text()), f"{playbook} does not know role {role}"
    validated = yaml.safe_load((ROOT / "playbooks" / "preflight.yml").read_text())
    assert f"'{role}'" in next(
        play["vars"]["preflight_roles"] for play in validated if "preflight_roles" in play.get("vars", {})
    )


def test_the_role_offers_the_engines_that_there_are() -> None:
    specification = yaml.safe_load((ROOT / "roles" / "displays" / "meta" / "argument_specs.yml").read_text())
    engines = (ROOT / "files" / "jupyter_displays" / "jupyter_displays" / "engines" / "__init__.py").read_text()
    modules = set(re.findall(r"^from \.(\w+) import \w+Engine\b", engines, re.MULTILINE)) - {"base"}
    choices = specification["argument_specs"]["main"]["options"]["displays_engine"]["choices"]
    assert set(choices) == {"auto", *modules}


def test_the_oldest_xpra_is_the_same_for_role_and_server() -> None:
    engine = (ROOT / "files" / "jupyter_displays" / "jupyter_displays" / "engines" / "xpra.py").read_text()
    oldest = re.search(r"minimum = \((\d+), (\d+)\)", engine)
    assert oldest
    variables = yaml.safe_load((ROOT / "roles" / "displays" / "vars" / "main.yml").read_text())
    assert variables["__displays_oldest"] == ".".join(oldest.groups())


def test_the_clients_of_cvmfs_that_hang_are_the_same_ones() -> None:
    """Those that are not to be installed, and those that are found on a host."""
    rules = (ROOT / "roles" / "cvmfs" / "meta" / "rules.yml").read_text()
    refused = re.search(r"cvmfs_version is not match\('(.+)'\)", rules)
    assert refused
    versions = [
        f"2.{minor}.{patch}{end}" for minor in (12, 13, 14) for patch in range(12) for end in ("", "-1.el9", "~1")
    ]
    found = [version for version in versions if HANGING.match(version)]
    assert found == [version for version in versions if re.match(refused[1], version)]
    assert len(found) == 9


def entries(value: object) -> Iterator[dict[str, Any]]:
    """Yield all dictionaries in a document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from entries(inner)


@pytest.mark.parametrize(("role", "unit"), [("jupyterhub", "jupyterhub.service"), ("accounts", "sssd.service")])
def test_a_unit_is_restarted_for_each_of_its_secrets(role: str, unit: str) -> None:
    tasks = ROOT / "roles" / role / "tasks"
    found = [entry for path in sorted(tasks.glob("*.yml")) for entry in entries(yaml.safe_load(path.read_text()))]
    secrets = {entry["path"] for entry in found if "secret" in entry}
    patterns = next(entry["reads"] for entry in found if entry.get("name") == unit and "reads" in entry)
    assert secrets
    assert not {path for path in secrets if not any(fnmatch(path, pattern) for pattern in patterns)}


def test_packages_that_check_mode_cannot_find_end_no_run() -> None:
    """With --check no repository is set up and no list of packages fetched, and a fresh host has none."""
    modules = {f"ansible.builtin.{name}" for name in ("apt", "dnf", "package")}
    found = {}
    for path in ROOT.glob("roles/*/tasks/*.yml"):
        for task in entries(yaml.safe_load(path.read_text())):
            if modules & set(task):
                found[f"{path.relative_to(ROOT)}: {task['name']}"] = task.get("ignore_errors")
    assert len(found) > 10
    assert not {name for name, ignored in found.items() if ignored != "{{ ansible_check_mode }}"}
