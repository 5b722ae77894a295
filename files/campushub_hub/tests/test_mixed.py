"""Servers on the hub's own host and in a cluster, at a real hub with stand-ins for both kinds of servers."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.chromium import chromium, keep_picture
from tests.hub_client import HubError
from traitlets.config import Config

from campushub_hub import configuration
from campushub_hub.profiles import LOCAL, SLURM, ProfileError, read_profile
from campushub_hub.spawners import CampusMixedSpawner, CampusSlurmSpawner, CampusSpawner, CampusSudoSpawner
from campushub_hub.spawners.cluster import Free, SlurmCluster
from campushub_hub.spawners.mixed import SpawnerTable

from .conftest import merged
from .test_choices import HOSTILE, offer, send
from .test_handlers import CLICK, Site, StagedSpawner, servers, session, wait_for

HERE = {"name": "here", "title": "Small", "interface": "lab", "memory": "1G"}
THERE = {"name": "there", "title": "Large", "interface": "lab", "run_on": "slurm", "partition": ["main", "gpu"]}


class StagedJob(StagedSpawner):
    """A stand-in for a job, which is known by its number."""

    runs_on = SLURM
    job = 0
    begins = False

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()
        return {**state, "job": self.job} if self.job else state

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.job = state.get("job", 0)

    def clear_state(self) -> None:
        super().clear_state()
        self.job = 0

    async def start(self) -> tuple[str, int]:
        address = await super().start()
        self.job = 7
        return address

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What the spawner of jobs says of one that waits."""
        queue = {"reason": "Resources", "position": 2, "start": 1796054400, "partition": "main", "cores": 4}
        queue["gpus"] = int(self.user_options.get("gpus", 0))
        yield {"progress": 20, "message": "Waiting in the queue of main, place 2", "queue": queue}
        while self.pending and not StagedJob.begins:  # noqa: ASYNC110 (it is an attribute of JupyterHub)
            await asyncio.sleep(0.05)
        yield {"progress": 60, "message": "Starting on node1", "node": "node1"}
        while self.pending:  # noqa: ASYNC110 (it is an attribute of JupyterHub)
            await asyncio.sleep(0.05)

    async def free_in_cluster(self) -> dict[str, Free]:
        return {"": Free(5, 1), "main": Free(5, 1), "gpu": Free(0)}

    def place(self) -> str:
        return "node1"


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(SlurmCluster, "begin", lambda _: None)
    for one in (SpawnerTable, SlurmCluster):
        one.clear_instance()
    yield
    for one in (SpawnerTable, SlurmCluster):
        one.clear_instance()


@pytest.fixture
def site(tmp_path: Path, rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path, rendered["mixed"]["settings"], monkeypatch)
    offer(site, [HERE, THERE])
    finish = configuration.finish

    def with_both(c: Any, document: dict[str, Any]) -> None:
        finish(c, document)
        c.JupyterHub.spawner_class = CampusMixedSpawner
        c.StagedJob = c.StagedSpawner

    monkeypatch.setattr(configuration, "finish", with_both)
    classes = {LOCAL: StagedSpawner, SLURM: StagedJob}
    monkeypatch.setattr(SpawnerTable, "spawner_class", lambda _, where: classes[where])
    monkeypatch.setattr(StagedSpawner, "free_in_cluster", StagedJob.free_in_cluster)
    monkeypatch.setattr(StagedSpawner, "free_cores_here", lambda _: 3)
    return site


def where(name: str = "") -> str:
    """Where the server of ann runs that has started last."""
    return StagedSpawner.started[f"ann:{name}" if name else "ann"].runs_on


def test_each_server_runs_where_its_profile_says(site: Site) -> None:
    def act(url: str) -> None:
        hub = session(url, "ann")
        for profile, place in (("there", SLURM), ("here", LOCAL), ("there", SLURM)):
            send(hub, "/hub/spawn", profile=profile)
            wait_for(lambda: servers(hub, "ann") == {"": True})
            assert where() == place
            hub.api("/hub/api/users/ann/server", "DELETE")
            wait_for(lambda: servers(hub, "ann") == {})
        # As last time.
        hub.api("/hub/api/users/ann/server", "POST")
        wait_for(lambda: servers(hub, "ann") == {"": True})
        assert where() == SLURM
        hub.api("/hub/api/users/ann/servers/second", "POST", {"profile": "here"})
        wait_for(lambda: servers(hub, "ann") == {"": True, "second": True})
        assert where("second") == LOCAL

    site.run(act)


def test_pages_say_where(site: Site) -> None:
    def act(url: str) -> None:
        hub = session(url, "ann")
        page = hub.request("/hub/spawn", headers=CLICK)[2]
        facts = [
            " ".join(re.sub(r"<[^>]+>", "", text).split())
            for text in re.findall(r'<span class="more facts">(.*?)</label>', page, re.DOTALL)
        ]
        assert facts[0] == "JupyterLab · on this machine · 1 GB · 3 CPU free now"
        assert facts[1].startswith("JupyterLab · in the cluster")
        assert "(0 CPU free now)" in page
        assert "All that you run on this machine, and each of your servers in the cluster, has at most:" in page
        hub.api("/hub/api/users/ann/server", "POST", {"profile": "here"})
        hub.api("/hub/api/users/ann/servers/second", "POST", {"profile": "there"})
        wait_for(lambda: servers(hub, "ann") == {"": True, "second": True})
        home = hub.request("/hub/home")[2]
        assert re.findall(r'<dd class="place">([^<]*)<', home) == ["this machine", "node1"]

    site.run(act)


def test_both_kinds_are_found_again(site: Site) -> None:
    """Also where the profiles have changed meanwhile, or there are none any more."""

    def begin(url: str) -> None:
        hub = session(url, "ann")
        hub.api("/hub/api/users/ann/server", "POST", {"profile": "here"})
        hub.api("/hub/api/users/ann/servers/second", "POST", {"profile": "there"})
        wait_for(lambda: servers(hub, "ann") == {"": True, "second": True})
        offer(site, [{**HERE, "run_on": "slurm"}, {**THERE, "run_on": "local", "partition": []}])

    def again(url: str) -> None:
        hub = session(url, "ann")
        assert servers(hub, "ann") == {"": True, "second": True}
        assert (where(), where("second")) == (LOCAL, SLURM)
        offer(site, [])

    def end(url: str) -> None:
        again(url)
        hub = session(url, "ann")
        for name in ("server", "servers/second"):
            hub.api(f"/hub/api/users/ann/{name}", "DELETE")
        wait_for(lambda: servers(hub, "ann") == {})
        hub.api("/hub/api/users/ann/servers/second", "POST", {})
        wait_for(lambda: servers(hub, "ann") == {"second": True})
        assert where("second") == LOCAL

    site.run(begin, again, end)


def test_a_start_that_takes_long_is_under_way(site: Site) -> None:
    """Whoever asks by the API is told so, also where the start is not where the last one was."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        StagedSpawner.held = True
        headers = {"X-XSRFToken": hub.xsrf("/hub/"), "Content-Type": "application/json"}
        for path in ("server", "servers/second"):
            for _ in range(2):
                answer = hub.request(f"/hub/api/users/ann/{path}", "POST", b'{"profile": "there"}', headers)
                assert answer[0] == 202, answer[2]
        StagedSpawner.held = False
        wait_for(lambda: servers(hub, "ann") == {"": True, "second": True})
        assert (where(), where("second")) == (SLURM, SLURM)
        assert len(StagedSpawner.starts) == 2

    site.run(act)


def test_who_waits_in_a_queue_keeps_nobody_from_starting(site: Site) -> None:
    site.settings = merged(site.settings, JupyterHub={"concurrent_spawn_limit": 1, "named_server_limit_per_user": 9})

    def act(url: str) -> None:
        hub = session(url, "ann")
        headers = {"X-XSRFToken": hub.xsrf("/hub/"), "Content-Type": "application/json"}

        def start(name: str, profile: str) -> int:
            options = f'{{"profile": "{profile}"}}'.encode()
            return hub.request(f"/hub/api/users/ann/servers/{name}", "POST", options, headers)[0]

        StagedSpawner.held = True
        assert [start("a", "there"), start("b", "there"), start("c", "here")] == [202] * 3
        assert [start("d", "here"), start("e", "there")] == [429] * 2, "that of others does"
        StagedSpawner.held = False
        wait_for(lambda: servers(hub, "ann") == {"a": True, "b": True, "c": True})
        assert start("d", "here") in (201, 202)

    site.run(act)


def test_a_failed_start_leaves_the_other_choice_free(site: Site) -> None:
    def act(url: str) -> None:
        hub = session(url, "ann")
        StagedSpawner.failure = RuntimeError("no")
        send(hub, "/hub/spawn", profile="there")
        wait_for(lambda: servers(hub, "ann") == {})
        StagedSpawner.failure = None
        for profile, place in (("here", LOCAL), ("there", SLURM)):
            send(hub, "/hub/spawn", profile=profile)
            wait_for(lambda: servers(hub, "ann") == {"": True})
            assert where() == place
            hub.api("/hub/api/users/ann/server", "DELETE")
            wait_for(lambda: servers(hub, "ann") == {})

    site.run(act)


def test_of_two_choices_at_once_one_starts(site: Site) -> None:
    def act(url: str) -> None:
        hub = session(url, "ann")
        site.directory_seconds = 0.1

        def start(number: int) -> None:
            try:
                hub.api("/hub/api/users/ann/server", "POST", {"profile": ("here", "there")[number % 2]})
            except HubError as error:
                assert error.args[0].startswith("400"), error  # noqa: PT017 (more than one may fail)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(start, range(6)))
        assert len(StagedSpawner.starts) == 1
        wait_for(lambda: servers(hub, "ann") == {"": True})

    site.run(act)


@pytest.mark.attack
def test_what_is_not_offered_runs_nowhere(site: Site) -> None:
    hostile = [
        *(options for options in HOSTILE if options.get("profile") not in ("course", "data")),
        *({"run_on": "slurm"}, {"profile": "here", "run_on": "slurm"}, {"profile": "here", "partition": "main"}),
        *(
            {"profile": "there", "run_on": "local"},
            {"profile": "there", "partition": "main\nx"},
            {"profile": ["there", "here"]},
        ),
    ]

    def act(url: str) -> None:
        hub = session(url, "ann")
        for options in hostile:
            for path in ("server", "servers/second"):
                with pytest.raises(HubError, match=r"^400"):
                    hub.api(f"/hub/api/users/ann/{path}", "POST", options)
        assert StagedSpawner.starts == []

    site.run(act)


@pytest.mark.parametrize(
    ("state", "runs", "found"),
    [
        # As releases before have written them, of which each hub had one kind.
        ({"job": 12, "uid": 2001, "url": "https://10.0.0.2:4000", "fingerprint": "ab"}, True, SLURM),
        ({"pid": 4711, "pid_started": "5", "home": "/home/ann"}, True, LOCAL),
        ({"unit_name": "jupyterhub-user-ann"}, True, LOCAL),
        # A start that the hub has not outlived, of which it has written down nothing.
        (None, True, LOCAL),
        # What has ended begins where most do.
        (None, False, SLURM),
        ({"last_end": {"reason": "self"}}, False, SLURM),
    ],
)
def test_what_is_kept_says_where_a_server_runs(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, Any] | None, runs: bool, found: str
) -> None:
    made: list[str] = []

    def spawner_class(_: SpawnerTable, where: str) -> type[SimpleNamespace]:
        made.append(where)
        return SimpleNamespace

    monkeypatch.setattr(SpawnerTable, "spawner_class", spawner_class)
    CampusMixedSpawner(
        orm_spawner=SimpleNamespace(server=SimpleNamespace() if runs else None, state=state),
        config=Config(SpawnerTable={"default_run_on": SLURM}),
    )
    assert made == [found]


def test_the_table_has_the_spawners_of_the_settings(rendered: dict[str, Any]) -> None:
    for host, local in (("mixed", "CampusSystemdSpawner"), ("mixed-slurm", "CampusSudoSpawner")):
        table = SpawnerTable(config=Config(rendered[host]["settings"]))
        assert (table.spawner_class(LOCAL).__name__, table.spawner_class(SLURM)) == (local, CampusSlurmSpawner)
    kinds: list[type[CampusSpawner]] = [CampusSudoSpawner, CampusSlurmSpawner]
    assert [kind.runs_on for kind in kinds] == [LOCAL, SLURM]


def test_a_profile_runs_at_one_of_two_places() -> None:
    assert read_profile({"name": "a", "run_on": "local"}).run_on == LOCAL
    assert read_profile({"name": "a"}).run_on == ""
    with pytest.raises(ProfileError, match="kubernetes"):
        read_profile({"name": "a", "run_on": "kubernetes"})


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
@pytest.mark.parametrize(("language", "width"), [("en", 1000), ("ru", 375)])
def test_people_see_what_is_free_and_what_they_wait_for(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, width: int
) -> None:
    """In a browser, on a screen and on a phone; a start that waits in a queue is given up by its own page."""
    suffix = {"en": "", "ru": "-phone-ru"}[language]
    free, place, begins = {
        "en": (
            "3 CPU free now",
            "1 GPU, 4 CPU and enough memory are free in partition main. Expected at 11/30/26, ",
            "It is starting on node1.",
        ),
        "ru": (
            "сейчас свободно ЦП: 3",
            "памяти, ЦП (4) и GPU (1). Ожидается в 30.11.2026, ",
            "Он запускается на node1.",
        ),
    }[language]
    here, there = (
        {**HERE, "description": "Starts at once."},
        {**THERE, "memory": ["2G", "4G"], "cpu": [1, 2], "gpus": [1, 2]},
    )
    offer(site, [here, {**there, "description": "For data that needs room."}])

    def act(url: str) -> None:
        hub = session(url, "ann")
        cookies = [{"name": c.name, "value": c.value or "", "url": f"{url}{c.path}"} for c in hub.cookies]
        with chromium(tmp_path, [int(url.rpartition(":")[2])]) as browser:
            context = browser.new_context(locale=language, viewport={"width": width, "height": 800})
            context.add_cookies(cookies)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"{url}/hub/spawn")
            assert free in page.locator("#choose").inner_text()
            page.get_by_role("radio").nth(1).check()
            page.locator("#choose .offer details:visible summary").last.click()
            keep_picture(page, f"start-page-cluster{suffix}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            StagedSpawner.held = True
            page.locator("#start").click()
            # Screen readers say it when it changes.
            page.get_by_role("status").filter(has_text=place).wait_for()
            keep_picture(page, f"queue{suffix}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            monkeypatch.setattr(StagedJob, "begins", True)
            page.get_by_text(begins).wait_for()
            page.locator("#stop-this-server").click()
            page.wait_for_url(f"{url}/hub/home")
            wait_for(lambda: servers(hub, "ann") == {})
            StagedSpawner.held = False

    site.run(act)
