"""Of this scenario's hosts two are under test, and are hubs; the others are the directories that they ask."""

from __future__ import annotations

import runpy
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from testinfra.host import Host

MADE = runpy.run_path(str(Path(__file__).with_name("server.py")))
PASSWORDS = {name: password for name, _, password in MADE["PEOPLE"] + MADE["HOSTILE"]}
CLIENT = Path(__file__).resolve().parents[2] / "tests" / "hub_client.py"

Named = Callable[[str], Host]
Client = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Test nothing on the hosts that are only asked."""
    items[:] = [item for item in items if host_of(item) not in ("directory-server", "directory-ad")]


def host_of(item: pytest.Item) -> str:
    """Return the name of the host that a test is about, if it is about each."""
    callspec = getattr(item, "callspec", None)
    return str(callspec.params["host"]["instance"]) if callspec and "host" in callspec.params else ""


@pytest.fixture(scope="module")
def server(named: Named) -> Host:
    """The directory."""
    return named("directory-server")


@pytest.fixture(scope="module")
def hub(named: Named) -> Host:
    """The host that is a hub with SystemdSpawner."""
    return named("directory-debian12")


@pytest.fixture(scope="session")
def at() -> Callable[[Host], Client]:
    """Act at a hub as a user: `at(host)("ann", "start")` returns what the client printed, be it good or bad."""

    def client_of(host: Host) -> Client:
        host.run(f"cat >/opt/hub_client.py <<'END_OF_CLIENT'\n{CLIENT.read_text()}\nEND_OF_CLIENT\n")

        def act(user: str, action: str, *arguments: str, password: str = "") -> str:
            words = ["http://127.0.0.1:980", user, password or PASSWORDS[user], action, *arguments]
            done = host.run(f"/opt/campushub/hub/bin/python /opt/hub_client.py {shlex.join(words)}")
            return str(done.stdout + done.stderr)

        return act

    return client_of
