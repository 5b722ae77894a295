"""What roles/jupyter/files/singleuser.py replaces of JupyterHub: fails when JupyterHub takes something else from it.

A server that really starts with it is tested on hosts, in molecule/jupyter and molecule/jupyterhub.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
from typing import TypeGuard

import pytest

from tests.settings.validation import ROOT

PROGRAM = ROOT / "roles/jupyter/files/singleuser.py"
# Prints which modules of JupyterHub have been loaded, and which modules are replaced.
LOAD = """
import json, runpy, sys
space = runpy.run_path(sys.argv[1], run_name="singleuser")
loaded = {name: module.__file__ for name, module in sys.modules.items()
          if name.partition(".")[0] == "jupyterhub" and getattr(module, "__file__", None)}
real = [name for name in space["HUB"] if getattr(sys.modules[name], "__file__", None)]
print(json.dumps([loaded, [*space["LIBRARIES"], *space["HUB"], space["CLIENT"].__name__], real]))
"""
# Names that JupyterHub 6 takes from what is replaced. For each a class that nothing is an instance of must be enough.
# Before a new name is added here, read in JupyterHub's code what it is used for.
TAKEN = {
    "aiohttp": {"jupyterhub.utils: (module)"},
    "jupyterhub.handlers.pages": {"jupyterhub.log: HealthCheckHandler"},
    "jupyterhub.httpclient": {
        "jupyterhub.services.auth: fetch",
        "jupyterhub.singleuser.extension: fetch",
        "jupyterhub.singleuser.mixins: fetch",
        "jupyterhub.utils: fetch",
    },
    "jupyterhub.orm": {
        "jupyterhub.metrics: (module)",
        "jupyterhub.roles: (module)",
        "jupyterhub.scopes: (module)",
    },
    "sqlalchemy": {"jupyterhub.roles: func", "jupyterhub.scopes: (module)"},
    "sqlalchemy.exc": {"jupyterhub.utils: SQLAlchemyError"},
}


@pytest.fixture(scope="module")
def loaded() -> tuple[dict[str, ast.Module], list[str]]:
    """The modules of JupyterHub in the process of a server, by name, and the names of those that are replaced."""
    command = [sys.executable, "-c", LOAD, str(PROGRAM)]
    files, replaced, real = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert real == [], "the hub's half was loaded"
    with_source = {name: ast.parse(open(file).read()) for name, file in files.items()}  # noqa: SIM115, PTH123
    return with_source, replaced


def imports(name: str, module: ast.Module) -> list[tuple[str, str]]:
    """Return what a module imports, as pairs of a module and a name in it; the name is empty for the module itself."""
    package = name if importlib.util.find_spec(name).submodule_search_locations else name.rpartition(".")[0]  # type: ignore[union-attr]
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            written = "." * node.level + (node.module or "")
            source = importlib.util.resolve_name(written, package) if node.level else written
            found += [(source, alias.name) for alias in node.names]
    return found


def test_names_taken_from_replaced_modules_are_known(loaded: tuple[dict[str, ast.Module], list[str]]) -> None:
    modules, replaced = loaded
    taken: dict[str, set[str]] = {}
    for name, module in modules.items():
        for source, wanted in imports(name, module):
            if source in replaced and f"{source}.{wanted}" not in replaced:
                taken.setdefault(source, set()).add(f"{name}: {wanted or '(module)'}")
            elif f"{source}.{wanted}" in replaced:
                taken.setdefault(f"{source}.{wanted}", set()).add(f"{name}: (module)")
    assert taken == TAKEN


def test_requests_to_the_hub_use_what_is_there(loaded: tuple[dict[str, ast.Module], list[str]]) -> None:
    modules, _ = loaded
    body = ast.parse(PROGRAM.read_text()).body
    ours = next(node for node in body if isinstance(node, ast.AsyncFunctionDef) and node.name == "fetch").args
    parameters = {argument.arg for argument in [*ours.args, *ours.kwonlyargs]}
    for name in ("jupyterhub.services.auth", "jupyterhub.singleuser.extension", "jupyterhub.singleuser.mixins"):
        functions = [node for node in ast.walk(modules[name]) if isinstance(node, ast.AsyncFunctionDef)]
        calls = [(function, node) for function in functions for node in ast.walk(function) if is_request(node)]
        assert calls, name
        for function, node in calls:
            assert {keyword.arg for keyword in node.keywords if keyword.arg} <= parameters, name
            # JupyterHub 6.1 writes `code` into one message, which the real client's responses have not got either.
            assert attributes_of_answer(function) <= {"status", "headers", "text", "code"}, name


def is_request(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether this is a call of `fetch`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fetch"


def attributes_of_answer(function: ast.AsyncFunctionDef) -> set[str]:
    """Return which attributes a function uses of what `fetch` returns."""
    names = {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Await) and is_request(node.value.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
    }


def test_the_real_client_has_the_same_call() -> None:
    from jupyterhub.httpclient import JupyterHubHTTPClient

    parameters = inspect.signature(JupyterHubHTTPClient.fetch).parameters
    assert list(parameters) == ["self", "url", "method", "raise_for_status", "kwargs"]
    assert (parameters["method"].default, parameters["raise_for_status"].default) == ("GET", True)
