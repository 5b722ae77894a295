"""Of this scenario's hosts two are under test; the third one is the directory that they ask."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

SERVER = "directory-server"
FILE = os.environ.get("MOLECULE_INSTANCE_CONFIG", "")
INSTANCES: list[dict[str, Any]] = yaml.safe_load(Path(FILE).read_text()) if FILE and Path(FILE).exists() else []


Connect = Callable[[dict[str, Any]], Host]


@pytest.fixture(
    params=[found for found in INSTANCES if found["instance"] != SERVER],
    ids=lambda instance: str(instance["instance"]),
    scope="module",
)
def host(request: pytest.FixtureRequest, connect: Connect) -> Host:
    """A host that people log in to."""
    return connect(request.param)


@pytest.fixture(scope="module")
def server(connect: Connect) -> Host:
    """The directory."""
    return connect(next(found for found in INSTANCES if found["instance"] == SERVER))


@pytest.fixture(scope="module")
def hub(connect: Connect) -> Host:
    """The host that is a hub."""
    return connect(next(found for found in INSTANCES if found["instance"] == "directory-debian12"))
