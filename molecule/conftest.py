"""Gives the verify tests of every scenario a connection to each of its test hosts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host


def instances() -> list[dict[str, Any]]:
    """Test hosts of the scenario under test, as its create step wrote them down."""
    path = os.environ.get("MOLECULE_INSTANCE_CONFIG")
    return yaml.safe_load(Path(path).read_text()) if path and Path(path).exists() else []


@pytest.fixture(params=instances(), ids=lambda instance: str(instance["instance"]), scope="module")
def host(request: pytest.FixtureRequest) -> Host:
    """A test host as root; `host.run("sudo -u alice …")` acts as somebody else."""
    instance = request.param
    return testinfra.get_host(
        f"ssh://{instance['user']}@{instance['address']}",
        ssh_identity_file=instance["identity_file"],
        ssh_extra_args="-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        controlpersist=60,
        sudo=True,
    )
