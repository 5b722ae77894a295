"""A browser with a screen and a keyboard of its own, and the way from it to the hub of a test host."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from playwright.sync_api import Browser, Error
from testinfra.host import Host

from tests.chromium import chromium
from tests.displays import Screen, Wire
from tests.site.browser_user import Person


@pytest.fixture(scope="module")
def wire(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """The way from this machine to the hub of a test host."""
    where = host.backend.host
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
    settings = [part for option in options for part in ("-o", option)]
    ssh = ["ssh", "-i", host.backend.ssh_identity_file, *settings, f"{where.user}@{where.name}"]
    wire = Wire(ssh, 980, tmp_path_factory.mktemp("wire"))
    yield wire
    wire.close()


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    """A monitor and a keyboard."""
    screen = Screen(tmp_path_factory.mktemp("screen"))
    yield screen
    screen.close()


@pytest.fixture(scope="module")
def browser(wire: Wire, screen: Screen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser in front of which somebody sits."""
    directory = tmp_path_factory.mktemp("browser")
    with chromium(directory, [wire.port], headless=False, env=screen.environment) as browser:
        yield browser


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what people saw when a test failed."""
    report = yield
    for one in item.funcargs.values() if report.failed else ():
        if isinstance(one, Person):
            try:
                one.picture(f"failed-{item.name}")
            except Error as error:
                print(f"no picture of {one.user}'s page: {error}")
    return report
