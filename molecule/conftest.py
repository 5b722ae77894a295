"""Gives the verify tests of every scenario a connection to each of its test hosts."""

from __future__ import annotations

import json
import os
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host
from xdist.scheduler import LoadScopeScheduling


def instances() -> list[dict[str, Any]]:
    """Test hosts of the scenario under test, as its create step wrote them down."""
    path = os.environ.get("MOLECULE_INSTANCE_CONFIG")
    return yaml.safe_load(Path(path).read_text()) if path and Path(path).exists() else []


def pytest_configure(config: pytest.Config) -> None:
    """Describe the markers of tests that are about our code more than about a distribution, or take long."""
    config.addinivalue_line("markers", "one_host: run on one test host; --everything runs it on each")
    config.addinivalue_line("markers", "slow: takes minutes; --everything runs it")


# Not --dist loadgroup: see findings/xdist-groups-are-not-seen.sh.
class HostScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Tests each host in a process of its own."""

    def _split_scope(self, nodeid: str) -> str:
        names = [str(instance["instance"]) for instance in instances()]
        return next((name for name in names if f"[{name}" in nodeid), names[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> HostScheduling:
    """Distribute the tests by host."""
    return HostScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip slow tests, and those for one host on all others: not the same one for all of them."""
    if "CAMPUSHUB_TEST_EVERYTHING" in os.environ:
        return
    hosts = instances()
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; --everything runs it"))
        elif (
            isinstance(item, pytest.Function)
            and item.get_closest_marker("one_host")
            and item.callspec.params["host"] != hosts[zlib.crc32(item.originalname.encode()) % len(hosts)]
        ):
            item.add_marker(pytest.mark.skip(reason="runs on another distribution; --everything runs it here, too"))


Connect = Callable[[dict[str, Any]], Host]


@pytest.fixture(scope="session")
def connect() -> Connect:
    """Connect to a test host as root."""

    def to(instance: dict[str, Any]) -> Host:
        return testinfra.get_host(
            f"ssh://{instance['user']}@{instance['address']}",
            ssh_identity_file=instance["identity_file"],
            ssh_extra_args="-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            controlpersist=60,
            sudo=True,
        )

    return to


@pytest.fixture(scope="session")
def named(connect: Connect) -> Callable[[str], Host]:
    """Connect to a test host by its name."""
    return lambda name: connect(next(found for found in instances() if found["instance"] == name))


@pytest.fixture(params=instances(), ids=lambda instance: str(instance["instance"]), scope="module")
def host(request: pytest.FixtureRequest, connect: Connect) -> Host:
    """A test host as root; `host.run("sudo -u alice …")` acts as somebody else."""
    return connect(request.param)


ApplyRole = Callable[..., subprocess.CompletedProcess[str]]


def applied_to(instance: str) -> ApplyRole:
    """Return how to apply a role to one host."""

    def apply(check: bool = False, role: str = "", **variables: Any) -> subprocess.CompletedProcess[str]:
        scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
        converge = next(
            p for p in (scenario / "converge.yml", scenario.parent / "shared" / "converge.yml") if p.exists()
        )
        command = ["ansible-playbook", "--inventory", os.environ["MOLECULE_INVENTORY_FILE"], "--limit", instance]
        command += ["--extra-vars", json.dumps(variables), *(["--check"] if check else []), str(converge)]
        environment = os.environ | ({"MOLECULE_SCENARIO_NAME": role} if role else {})
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=scenario.parents[1], env=environment
        )

    return apply


@pytest.fixture(scope="session")
def apply_to() -> Callable[[str], ApplyRole]:
    """Apply roles to a host by its name, as `apply_role` does to the one under test."""
    return applied_to


@pytest.fixture
def apply_role(request: pytest.FixtureRequest, host: Host) -> ApplyRole:  # noqa: ARG001 (it says which host)
    """
    Apply the scenario's role once more to this host alone, with other settings, as an administrator would.

    `apply_role(web_upload_size="2g")` returns how ansible-playbook ended and what it printed. `check=True` asks for
    check mode, `role="jupyterhub"` another role than the scenario's.
    """
    return applied_to(str(request.node.callspec.params["host"]["instance"]))
