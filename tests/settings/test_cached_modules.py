"""A module with a valid result is not run: this machine stands for a host, and nothing on it is changed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.settings.validation import PRINTING, ROOT

MODULES = (
    "certificate",
    "generated_secrets",
    "local_accounts",
    "managed_files",
    "python_environment",
    "systemd_units",
)


def result(scratch: Path, preflight: dict[str, Any], state: str = "absent", secret: str = "") -> dict[str, Any]:
    """Return what a step answers after a preflight that found this."""
    # What is absent leaves nothing behind, so no result of it is stored.
    file = {"path": str(scratch / "x"), "state": state, **({"secret": secret} if secret else {})}
    return answer_of(scratch, preflight, [{"managed_files": {"files": [file]}}])


def answer_of(scratch: Path, preflight: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the last of some steps answers after a preflight that found this."""
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [{"ansible.builtin.set_fact": {"campushub": preflight, "cacheable": True}}, *steps],
    }
    (scratch / "play.yml").write_text(yaml.safe_dump([play]))
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(scratch / "play.yml")],
        cwd=ROOT,
        # What a module was called with is shown at this level only, and since ansible-core 2.21 only on request.
        env={**PRINTING, "ANSIBLE_VERBOSITY": "3", "ANSIBLE_INJECT_INVOCATION": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    *_, text = re.split(r"(?:ok|changed): \[localhost\] => ", run.stdout)
    return dict(json.JSONDecoder().raw_decode(text)[0])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("play")


@pytest.fixture(scope="module")
def key(scratch: Path) -> str:
    """The key that a step gets for its module."""
    return str(result(scratch, {"cached_results": {}})["invocation"]["module_args"]["cache_key"])


def test_a_valid_result_is_returned_without_the_module(scratch: Path, key: str) -> None:
    known = {"changed_paths": ["only the cache knows this path"]}
    answer = result(scratch, {"cached_results": {key: known, "another": {}}})
    assert answer["changed_paths"] == known["changed_paths"]
    assert answer["changed"] is False


def test_other_arguments_have_another_key(scratch: Path, key: str) -> None:
    answer = result(scratch, {"cached_results": {key: {"changed_paths": ["stale"]}}}, state="undiverted")
    assert answer["changed_paths"] == []
    assert answer["invocation"]["module_args"]["cache_key"] not in (None, key)


def test_nothing_secret_is_in_a_key(scratch: Path) -> None:
    """A file that is to go has no secret, whatever its text would be."""
    keys = [result(scratch, {"cached_results": {}}, secret=secret)["invocation"] for secret in ("one", "another")]
    first, second = (invocation["module_args"]["cache_key"] for invocation in keys)
    assert first == second is not None
    kept = result(scratch, {"cached_results": {}}, state="present", secret="one")["invocation"]
    assert kept["module_args"]["cache_key"] is None
    (scratch / "x").unlink()


@pytest.mark.parametrize(("known", "is_asked"), [([], False), (["/srv/none"], True)])
def test_a_host_without_an_environment_is_not_asked_for_it(scratch: Path, known: list[str], is_asked: bool) -> None:
    look = {
        "python_environment": {"path": "/srv/none", "requirements": "x==1", "python": "/nowhere"},
        "check_mode": True,
    }
    found = answer_of(scratch, {"cached_results": {}, "environments": known}, [look])
    assert found["changed"]
    assert ("invocation" in found) is is_asked


CHANGE = {"ansible.builtin.command": "true", "changed_when": True}
FAILURE = {"ansible.builtin.command": "false", "ignore_errors": True}
QUESTION = {"ansible.builtin.command": "true", "changed_when": False}


@pytest.mark.parametrize(
    ("before", "is_kept"),
    [([QUESTION], True), ([CHANGE, QUESTION], False), ([FAILURE], False)],
    ids=["nothing", "a change", "a failure"],
)
def test_a_service_is_looked_at_again_once_the_run_changes(
    scratch: Path, before: list[dict[str, Any]], is_kept: bool
) -> None:
    """What preflight has seen of a service says nothing of what it is to read now."""
    # In place of the service manager of this machine, which has no such unit.
    (scratch / "systemctl").write_text(
        "#!/bin/sh\necho ActiveState=active; echo UnitFileState=enabled; echo NeedDaemonReload=no\n"
        "echo DropInPaths=; echo InactiveExitTimestampMonotonic=0\n"
    )
    (scratch / "systemctl").chmod(0o755)
    look: dict[str, Any] = {
        "systemd_units": {"units": [{"name": "campushub-none.service"}]},
        "environment": {"PATH": f"{scratch}:/usr/bin:/bin"},
    }
    key = answer_of(scratch, {"cached_results": {}}, [look])["invocation"]["module_args"]["cache_key"]
    known = {"started": ["only the cache knows"], "outdated": {}}
    found = answer_of(scratch, {"cached_results": {key: known}}, [*before, look])
    assert (found["started"] == known["started"]) is is_kept


@pytest.mark.parametrize("preflight", [{}, {"cached_results": None}], ids=["no preflight", "turned off"])
def test_without_a_cache_modules_run_and_store_nothing(scratch: Path, preflight: dict[str, Any]) -> None:
    answer = result(scratch, preflight)
    assert answer["changed_paths"] == []
    assert answer["invocation"]["module_args"]["cache_key"] is None


@pytest.mark.parametrize(("plugin", "is_kept"), [("memory", True), ("jsonfile", False)])
def test_no_cache_of_facts_outlives_the_state_of_a_host(tmp_path: Path, plugin: str, is_kept: bool) -> None:
    cache = {"ANSIBLE_CACHE_PLUGIN": plugin, "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(tmp_path / "facts")}
    options = ["-i", "localhost,", "-c", "local", "-e", "preflight_collect=true", "--tree", str(tmp_path / "answers")]
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "adhoc", "localhost", "-m", "check_host", *options],
        cwd=ROOT,
        env={**PRINTING, **cache},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((tmp_path / "answers" / "localhost").read_text())["ansible_facts"]
    assert found["ansible_distribution"]
    assert ("campushub" in found) is is_kept


@pytest.mark.parametrize("module", MODULES)
def test_documentation_has_the_shared_option(module: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "doc", "--json", module],
        cwd=ROOT,
        env=PRINTING,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert '"cache_key"' in run.stdout
