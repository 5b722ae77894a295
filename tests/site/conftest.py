"""
A whole centre, installed by site.yml on one host of each platform, for tests that use it in a real browser.

    CAMPUSHUB_KEEP_HOSTS=1       leave the hosts, and use those that are there: quick while tests are written
    CAMPUSHUB_SKIP_INSTALL=1     take the hosts as they are
    CAMPUSHUB_SCREENSHOTS=DIR    where the pictures of the pages go (docs/screenshots for those of the README)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error

from tests.chromium import chromium
from tests.site import browser_user, centre

KEEP = os.environ.get("CAMPUSHUB_KEEP_HOSTS") == "1"
SPAWNERS = ["sudo", "systemd"]
if os.environ.get("CAMPUSHUB_TEST_SPAWNERS") == "exchanged":
    SPAWNERS.reverse()
PLATFORMS: dict[str, tuple[str, str, int, str]] = {
    "debian12": ("bookworm", SPAWNERS[0], 9500, ""),
    # Here each user's server has a name of its own.
    "debian13": ("trixie", SPAWNERS[1], 9600, "centre.example.test"),
}


@dataclass(frozen=True)
class Centre:
    """The hosts of this run and the inventory that they were installed from."""

    hosts: dict[str, centre.Host]
    inventory: Path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    """Start the hosts and install the centre on all of them at once."""
    centre.RESULTS.mkdir(parents=True, exist_ok=True)
    for path in centre.RESULTS.iterdir():
        path.unlink()
    hosts = {key: centre.Host(f"site-{key}", *platform) for key, platform in PLATFORMS.items()}
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(centre.Host.up, hosts.values()))
        inventory = centre.write_inventory(list(hosts.values()), tmp_path_factory.mktemp("inventory"))
        if os.environ.get("CAMPUSHUB_SKIP_INSTALL") != "1":
            centre.apply_site(inventory)
        yield Centre(hosts, inventory)
    finally:
        if not KEEP:
            for host in hosts.values():
                host.down()


@pytest.fixture(scope="session", params=PLATFORMS)
def host(request: pytest.FixtureRequest, site: Centre) -> centre.Host:
    """One of the hosts; all tests of one come together."""
    return site.hosts[str(request.param)]


@pytest.fixture(scope="session")
def browser(site: Centre, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, for which the names of the hosts lead to their ports on this machine, as DNS would have it."""
    doors = [(host, port, host.port(port)) for host in site.hosts.values() for port in (80, 443)]
    named = [(name, *door) for host, *door in doors for name in (host.web_name, f"*.{host.web_name}")]
    rules = ", ".join(f"MAP {name}:{port} 127.0.0.1:{outside}" for name, port, outside in named)
    ports = [outside for _, _, outside in doors]
    with chromium(tmp_path_factory.mktemp("browser"), ports, f"--host-resolver-rules={rules}") as browser:
        yield browser


BrowserSession = Callable[..., browser_user.Person]


@pytest.fixture
def browse(request: pytest.FixtureRequest, browser: Browser, host: centre.Host) -> Iterator[BrowserSession]:
    """Sit somebody down in front of a browser: `browse("alice")`, `browse("alice", locale="ru-RU", phone=True)`."""
    people: list[browser_user.Person] = []

    def arrive(user: str = "alice", locale: str = "en-US", phone: bool = False) -> browser_user.Person:
        people.append(browser_user.Person(browser, host.url, user, centre.PASSWORDS[user], locale=locale, phone=phone))
        return people[-1]

    yield arrive
    if request.node.stash.get(FAILED, False):
        keep_evidence(request.node.name, host, people)
    for one in people:
        one.leave()


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the fixtures of a test that it has failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def keep_evidence(name: str, host: centre.Host, people: list[browser_user.Person]) -> None:
    """Keep what everybody saw at the time of a failure, and the journal of the host."""
    for number, one in enumerate(people):
        try:
            one.page.screenshot(path=centre.RESULTS / f"failed-{name}-{number}-{one.user}.png")
        except Error as error:
            print(f"no screenshot of {one.user}'s page: {error}")
        print(f"{one.user} at {one.page.url}:", *one.problems, sep="\n  ")
    journal = host.run("journalctl --boot --no-pager --since '-15 min'", check=False)
    (centre.RESULTS / f"failed-{name}.journal").write_text(journal)
