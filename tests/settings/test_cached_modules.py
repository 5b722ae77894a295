"""A module with a valid result is not run: this machine stands for a host, and nothing on it is changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.settings.validation import PRINTING, ROOT

MODULES = ("local_accounts", "managed_files", "python_environment")


def result(scratch: Path, preflight: dict[str, Any], state: str = "absent") -> dict[str, Any]:
    """Return what a step answers after a preflight that found this."""
    # What is absent leaves nothing behind, so no result of it is stored.
    step = {"managed_files": {"files": [{"path": str(scratch / "x"), "state": state}]}}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [{"ansible.builtin.set_fact": {"campushub": preflight, "cacheable": True}}, step],
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
    _, _, text = run.stdout.rpartition("ok: [localhost] => ")
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
