"""Of this scenario's hosts two are under test; the third one is the file server that homes are on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

SERVER = "homes-server"
FILE = os.environ.get("MOLECULE_INSTANCE_CONFIG", "")
INSTANCES: list[dict[str, Any]] = yaml.safe_load(Path(FILE).read_text()) if FILE and Path(FILE).exists() else []


@pytest.fixture(
    params=[found for found in INSTANCES if found["instance"] != SERVER],
    ids=lambda instance: str(instance["instance"]),
    scope="module",
)
def host(request: pytest.FixtureRequest, connect: Callable[[dict[str, Any]], Host]) -> Host:
    """A hub."""
    return connect(request.param)


@pytest.fixture(scope="module")
def server(connect: Callable[[dict[str, Any]], Host]) -> Host:
    """The file server."""
    return connect(next(found for found in INSTANCES if found["instance"] == SERVER))
