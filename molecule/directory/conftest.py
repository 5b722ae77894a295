"""Of this scenario's hosts two are under test; the third one is the directory that they ask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

SERVER = "directory-server"
FILE = os.environ.get("MOLECULE_INSTANCE_CONFIG", "")
INSTANCES: list[dict[str, Any]] = yaml.safe_load(Path(FILE).read_text()) if FILE and Path(FILE).exists() else []


def connect(instance: dict[str, Any]) -> Host:
    """Connect to a host as root."""
    return testinfra.get_host(
        f"ssh://{instance['user']}@{instance['address']}",
        ssh_identity_file=instance["identity_file"],
        ssh_extra_args="-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        controlpersist=60,
        sudo=True,
    )


@pytest.fixture(
    params=[found for found in INSTANCES if found["instance"] != SERVER],
    ids=lambda instance: str(instance["instance"]),
    scope="module",
)
def host(request: pytest.FixtureRequest) -> Host:
    """A host that people log in to."""
    return connect(request.param)


@pytest.fixture(scope="module")
def server() -> Host:
    """The directory."""
    return connect(next(found for found in INSTANCES if found["instance"] == SERVER))


@pytest.fixture(scope="module")
def hub() -> Host:
    """The host that is a hub."""
    return connect(next(found for found in INSTANCES if found["instance"] == "directory-debian12"))
