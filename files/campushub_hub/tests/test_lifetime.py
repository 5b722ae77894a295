"""Ends of servers: a real hub, with real web servers in the place of users' servers and their extension."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jupyterhub import orm
from jupyterhub.spawner import SimpleLocalProcessSpawner
from jupyterhub.utils import random_port, utcnow
from tests.chromium import chromium, keep_picture
from tests.hub_client import Hub, HubError
from tests.settings.validation import ROOT

from campushub_hub import configuration, maintenance
from campushub_hub.spawners import lifetime
from campushub_hub.spawners.choices import ChosenServer
from campushub_hub.spawners.lifetime import SECRET_HEADER

from .conftest import merged
from .test_handlers import Site, StagedSpawner, servers, session, wait_for


@pytest.fixture
def site(tmp_path: Path, rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, rendered["systemd"]["settings"], monkeypatch)


def limited(site: Site, **settings: Any) -> None:
    site.settings = merged(site.settings, CampusSpawner=settings)


def start(hub: Hub, name: str = "") -> StagedSpawner:
    earlier = StagedSpawner.started.get(full_name := f"{hub.user}:{name}".rstrip(":"))
    hub.api(f"/hub/api/users/{hub.user}/servers/{name}", "POST", {})
    wait_for(lambda: StagedSpawner.started.get(full_name) is not earlier)
    wait_for(lambda: bool(StagedSpawner.newest.told))
    return StagedSpawner.newest


def test_an_idle_server_ends_and_a_busy_one_stays(site: Site) -> None:
    """By what the server says: JupyterHub takes an open page, which asks through the proxy, for activity."""
    limited(site, idle_timeout=3)

    def act(url: str) -> None:
        ann, bob = session(url, "ann"), session(url, "bob")
        idle, busy = start(ann), start(bob)
        idle.said = {"idle": 1000.0, "saving": 0}
        busy.said = {"idle": 0.0, "saving": 0}
        wait_for(lambda: servers(ann, "ann") == {})
        assert idle.told[-1]["ending"] == {"reason": "idle", "message": ""}
        assert servers(bob, "bob") == {"": True}
        assert not busy.told[-1]["ending"]

    site.run(act)


# What no extension says: the last ones become numbers that Python cannot convert.
NONSENSE: list[Any] = [
    *(None, {}, [], {"idle": "nan", "saving": 0}, {"idle": -5, "saving": 0}, {"idle": 0, "saving": -1}, "x" * 20_000),
    *({"idle": 0, "saving": float("inf")}, {"idle": 10**400, "saving": 0}, {"idle": 0, "saving": 0, "waiting": []}),
]


@pytest.mark.parametrize("said", NONSENSE)
def test_a_server_that_says_nothing_of_use_ends_as_well(site: Site, said: Any) -> None:
    """By the activity that JupyterHub knows of."""
    limited(site, idle_timeout=2)

    def act(url: str) -> None:
        hub = session(url, "ann")
        start(hub).said = said
        wait_for(lambda: servers(hub, "ann") == {})

    StagedSpawner.first_said = said
    site.run(act)


def test_a_server_ends_at_its_age_though_it_is_busy(site: Site) -> None:
    limited(site, max_age=3)

    def act(url: str) -> None:
        hub = session(url, "ann")
        began = time.monotonic()
        server = start(hub)
        assert server.told[0]["age_left"] <= 3
        wait_for(lambda: servers(hub, "ann") == {})
        assert time.monotonic() - began >= 3
        assert server.told[-1]["ending"]["reason"] == "max_age"

    site.run(act)


@pytest.mark.parametrize("said", [NONSENSE[0], *NONSENSE[-3:]])
def test_nothing_a_server_says_keeps_it_from_its_end(site: Site, said: Any) -> None:
    """All servers of a user end when an administrator, or campushub-revoke, deletes the user."""

    def act(url: str) -> None:
        ann, boss = session(url, "ann"), session(url, "bob")
        start(ann)
        start(ann, "second")
        boss.api("/hub/api/users/ann", "DELETE")
        assert StagedSpawner.running == set()
        with pytest.raises(HubError, match=r"^404"):
            boss.api("/hub/api/users/ann")

    StagedSpawner.first_said = said
    site.run(act)


def test_one_server_that_cannot_be_stopped_keeps_no_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the hub does not forget it with its user."""
    announce_end = StagedSpawner.announce_end

    async def fails(self: StagedSpawner, *why: str) -> None:
        if not self.name:
            raise RuntimeError
        await announce_end(self, *why)

    def act(url: str) -> None:
        ann, boss = session(url, "ann"), session(url, "bob")
        start(ann)
        start(ann, "second")
        with monkeypatch.context() as patched:
            patched.setattr(StagedSpawner, "announce_end", fails)
            with pytest.raises(HubError, match=r"^503 .*Try again"):
                boss.api("/hub/api/users/ann", "DELETE")
        assert StagedSpawner.running == {""}
        boss.api("/hub/api/users/ann", "DELETE")
        assert StagedSpawner.running == set()

    site.run(act)


def test_the_watch_goes_on_after_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "LAST_RETRY", 0.3)
    limited(site, idle_timeout=2)
    next_end = StagedSpawner.next_end
    failed: list[float] = []

    def fails_twice(self: StagedSpawner, idle: float) -> tuple[float, str]:
        if len(failed) < 2:
            failed.append(idle)
            raise OSError
        return next_end(self, idle)

    monkeypatch.setattr(StagedSpawner, "next_end", fails_twice)

    def act(url: str) -> None:
        hub = session(url, "ann")
        start(hub).said = {"idle": 1000.0, "saving": 0}
        wait_for(lambda: servers(hub, "ann") == {})
        assert len(failed) == 2

    site.run(act)


def ends(server: StagedSpawner, seconds: float = 0) -> Callable[[], bool]:
    """Tell whether a server has been told of its end so often that so many seconds have passed since."""
    return lambda: sum(bool(told["ending"]) for told in server.told) > seconds / lifetime.SAVE_INTERVAL


def test_pages_that_save_are_waited_for(site: Site) -> None:
    """From the news of the end, which may take long to reach them, to the last save."""
    limited(site, save_timeout=120, max_age=1000, extension_limit=100)

    def act(url: str) -> None:
        hub = session(url, "ann")
        server = start(hub)
        # Of two pages, none of which has heard the news.
        server.said = {"idle": 0.0, "saving": 0, "waiting": 2}
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(hub.stop)
            wait_for(ends(server, 2))
            server.said = {"idle": 0.0, "saving": 1, "waiting": 0}
            wait_for(ends(server, 4))
            # What else the hub tells it is no sign that it goes on.
            assert ask(server, url, "POST", "ann/servers/") == 200
            assert StagedSpawner.running == {""}
            assert not stopped.done()
            server.said = {"idle": 0.0, "saving": 0, "waiting": 0}
            stopped.result()
        wait_for(lambda: servers(hub, "ann") == {})
        endings = [told["ending"] for told in server.told]
        first = next(number for number, ending in enumerate(endings) if ending)
        assert all(endings[first:])

    site.run(act)


def test_pages_that_save_are_not_waited_for_indefinitely(site: Site) -> None:
    limited(site, save_timeout=4)

    def act(url: str) -> None:
        hub = session(url, "ann")
        start(hub).said = {"idle": 0.0, "saving": 1}
        began = time.monotonic()
        hub.stop()
        wait_for(lambda: servers(hub, "ann") == {})
        assert time.monotonic() - began >= 4

    site.run(act)


def test_a_server_that_is_busy_saving_need_not_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to the first question nor in between."""
    monkeypatch.setattr(lifetime, "ANSWER_SECONDS", 1)
    limited(site, save_timeout=120)

    def act(url: str) -> None:
        hub = session(url, "ann")
        server = start(hub)
        server.silent = True
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(hub.stop)
            wait_for(ends(server, 2))
            server.said, server.silent = {"idle": 0.0, "saving": 1}, False
            wait_for(ends(server, 4))
            server.silent = True
            wait_for(ends(server, 6))
            assert StagedSpawner.running == {""}
            assert not stopped.done()
            server.said, server.silent = {"idle": 0.0, "saving": 0}, False
            stopped.result()
        wait_for(lambda: servers(hub, "ann") == {})

    site.run(act)


@pytest.mark.parametrize("who", ["administrator", "user"])
def test_an_end_that_failed_is_taken_back(site: Site, who: str) -> None:
    """The next one is announced, and named, as if there had been no other."""

    def act(url: str) -> None:
        ann, boss = session(url, "ann"), session(url, "bob")
        for last in ("stopped", "killed"):
            server = start(ann)
            site.proxy_fails = True
            if who == "administrator":
                boss.api("/hub/api/users/ann/server", "DELETE", {"message": "Noon"})
            else:
                assert ask(server, url, "DELETE", "ann/servers/") == 202
            wait_for(ends(server))
            wait_for(lambda: not server.told[-1]["ending"])  # noqa: B023 (is of this turn)
            assert servers(ann, "ann") == {"": True}
            site.proxy_fails = False
            if last == "killed":
                server.vanish()
                ann.api("/hub/api/users/ann/server", "DELETE", {})
            else:
                boss.api("/hub/api/users/ann/server", "DELETE", {"message": "Evening"})
                assert server.told[-1]["ending"] == {"reason": "administrator", "message": "Evening"}
            wait_for(lambda: servers(ann, "ann") == {})
            assert ("Evening" if last == "stopped" else "It ended by itself.") in ann.request("/hub/home")[2]

    site.run(act)


@pytest.mark.parametrize("how", ["desktop", "busy"])
def test_a_hub_that_was_down_ends_no_server_for_that(site: Site, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Of a server that says nothing, as of a desktop or one that is busy, it does not know what it did meanwhile."""
    monkeypatch.setattr(lifetime, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(lifetime, "RESTART_SECONDS", 1)
    monkeypatch.setattr(lifetime, "LAST_RETRY", 1)
    limited(site, idle_timeout=1000)

    def before(url: str) -> None:
        server = start(session(url, "ann"))
        server.said, server.silent = None, how == "busy"
        server.orm_spawner.last_activity = utcnow(with_tz=False) - timedelta(hours=1)
        server.user.db.commit()

    def after(url: str) -> None:
        hub = session(url, "ann")
        server = StagedSpawner.newest
        wait_for(lambda: len(server.told) > 1)
        assert servers(hub, "ann") == {"": True}
        assert not any(told["ending"] for told in server.told)
        # One that answers counts as it says.
        server.said, server.silent = {"idle": 1001.0, "saving": 0}, False
        wait_for(lambda: servers(hub, "ann") == {})

    site.run(before, after)


@pytest.mark.parametrize("how", ["hangs", "unreachable", "never ran"])
def test_a_hub_that_restarts_ends_no_server_for_its_silence(
    site: Site, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Only what was left of a start: whoever waited for it has been told that there is no server."""
    monkeypatch.setattr(lifetime, "RESTART_SECONDS", 1)
    site.settings = merged(site.settings, Spawner={"http_timeout": 1})

    def before(url: str) -> None:
        server = start(session(url, "ann"))
        if how == "hangs":
            server.silent = True
            return
        assert server.served
        server.served.stop()
        if how == "never ran":
            server.orm_spawner.state = {name: value for name, value in server.get_state().items() if name != "boot"}
            server.user.db.commit()

    def after(url: str) -> None:
        hub, left = session(url, "ann"), {} if how == "never ran" else {"": True}
        wait_for(lambda: servers(hub, "ann") == left)
        assert StagedSpawner.running == set(left)

    site.run(before, after)


def test_no_server_ends_for_its_age_without_a_warning(site: Site) -> None:
    """Though the hub was down when it was due."""
    limited(site, max_age=1000, end_warnings=[600, 100])

    def before(url: str) -> None:
        server = start(session(url, "ann"))
        state = server.orm_spawner.state
        server.orm_spawner.state = {**state, "began": state["began"] - 2000}
        server.user.db.commit()

    def after(url: str) -> None:
        hub = session(url, "ann")
        wait_for(lambda: bool(StagedSpawner.newest.told))
        assert 50 < StagedSpawner.newest.told[0]["age_left"] <= 100
        assert servers(hub, "ann") == {"": True}

    site.run(before, after)


def ask(server: StagedSpawner, url: str, method: str, path: str) -> int:
    """Ask the hub as a server does, with its own token; return the status."""
    hub = Hub(url, "nobody")
    headers = {"Authorization": f"token {server.api_token}"}
    return hub.request(f"/hub/api/users/{path}/lifetime", method, b"" if method == "POST" else None, headers)[0]


def test_more_time_is_given_within_the_policy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """To one's own server, by its token; the hub remembers it through a restart."""
    monkeypatch.setattr(lifetime, "EXTENSION_STEP", 60)
    limited(site, max_age=100, extension_limit=90)

    def act(url: str) -> None:
        ann, bob = session(url, "ann"), session(url, "bob")
        first, second, other = start(ann), start(ann, "second"), start(bob)
        assert first.told[0]["extension"] == 60
        # Neither that of somebody else, though they administer the hub, nor another of one's own.
        assert [ask(other, url, "POST", "ann/servers/"), ask(second, url, "POST", "ann/servers/")] == [404, 404]
        with pytest.raises(HubError, match=r"^404"):
            bob.api("/hub/api/users/ann/servers//lifetime", "POST", {})
        assert ask(first, url, "POST", "ann/servers/") == 200
        assert (first.told[-1]["extension"], first.extended) == (30, 60)
        assert 150 < first.told[-1]["age_left"] <= 160
        assert first.orm_spawner.state["extended"] == 60
        assert [ask(first, url, "POST", "ann/servers/") for _ in range(2)] == [200, 403]
        assert first.extended == 90
        assert second.extended == 0
        # Another run has all of it again.
        ann.stop()
        wait_for(lambda: servers(ann, "ann") == {"second": True})
        assert start(ann).told[0]["extension"] == 60

    site.run(act)


def test_without_a_policy_there_is_no_more_time(site: Site) -> None:
    limited(site, max_age=100)

    def act(url: str) -> None:
        server = start(session(url, "ann"))
        assert server.told[0]["extension"] == 0
        assert ask(server, url, "POST", "ann/servers/") == 403

    site.run(act)


def test_a_server_ends_at_its_own_wish(site: Site) -> None:
    def act(url: str) -> None:
        hub = session(url, "ann")
        server = start(hub, "second")
        assert ask(server, url, "DELETE", "ann/servers/second") == 202
        wait_for(lambda: servers(hub, "ann") == {})
        assert server.told[-1]["ending"] == {"reason": "self", "message": ""}

    site.run(act)


def test_a_stop_tells_why_before_it_comes(site: Site) -> None:
    """With the words of the administrator."""

    def act(url: str) -> None:
        ann, boss = session(url, "ann"), session(url, "bob")
        server = start(ann)
        boss.api("/hub/api/users/ann/server", "DELETE", {"message": "New <b>memory</b> at noon"})
        assert server.told[-1]["ending"] == {"reason": "administrator", "message": "New <b>memory</b> at noon"}
        wait_for(lambda: servers(ann, "ann") == {})
        server = start(ann)
        ann.stop()
        assert server.told[-1]["ending"] == {"reason": "self", "message": ""}

    site.run(act)


def test_the_hub_names_a_secret_of_that_run_alone(site: Site) -> None:
    def act(url: str) -> None:
        hub = session(url, "ann")
        secrets = []
        for _ in range(2):
            server = start(hub)
            secrets.append({headers[SECRET_HEADER] for headers in server.headers})
            hub.stop()
            wait_for(lambda: servers(hub, "ann") == {})
        assert [len(one) for one in secrets] == [1, 1]
        assert secrets[0] != secrets[1]

    site.run(act)


def test_the_secret_outlives_a_restart_of_the_hub(site: Site) -> None:
    """It is kept with the server, and gone with it."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        server = start(hub)
        kept = StagedSpawner(user=server.user, orm_spawner=server.orm_spawner)
        kept.load_state(json.loads(json.dumps(server.orm_spawner.state)))
        assert kept.get_state() == server.get_state()
        assert kept.get_state()["session_secret"]
        hub.stop()
        wait_for(lambda: servers(hub, "ann") == {})
        (stopped,) = server.user.db.query(orm.Spawner).all()
        assert "session_secret" not in (stopped.state or {})

    site.run(act)


@pytest.mark.parametrize("days", [2, -2])
def test_a_clock_that_jumps_while_the_hub_restarts_ends_nothing(site: Site, days: int) -> None:
    """The hub's database has times of the clock."""
    limited(site, max_age=3600, idle_timeout=1800)

    def act(url: str) -> None:
        hub = session(url, "ann")
        server = start(hub)
        began, record = server.age_left(), server.orm_spawner
        state = json.loads(json.dumps(record.state))
        jump = timedelta(days=days)
        record.started, record.last_activity = record.started - jump, (record.last_activity or record.started) - jump
        again = StagedSpawner(user=server.user, orm_spawner=record, config=server.config)
        again.load_state(state)
        again.note_start()
        assert began is not None
        assert 0 <= began - (again.age_left() or 0) < 60
        # Also where the server itself does not say how long it has been idle.
        assert 0 <= again.known_idle() < 60
        hub.stop()

    site.run(act)


@pytest.mark.parametrize(
    ("reason", "english", "russian"),
    [
        ("self", "You have stopped it.", "Вы его остановили."),
        ("administrator", "An administrator has stopped it.", "Его остановил администратор."),
        ("idle", "nothing happened there for a long time", "долго ничего не происходило"),
        ("ended", "Its last words were: <code", "Его последние слова:"),
        ("home", "while your home directory could not be used:", "когда ваш домашний каталог был недоступен:"),
        ("reboot", "The host was restarted.", "Узел был перезагружен."),
        ("shutdown", "The host was restarted.", "Узел был перезагружен."),
    ],
)
def test_the_last_end_has_its_reason_at_the_next_visit(
    site: Site, monkeypatch: pytest.MonkeyPatch, reason: str, english: str, russian: str
) -> None:
    """On the home page, and where the server's address leads; until it runs again."""
    if reason == "idle":
        limited(site, idle_timeout=2)

    async def why_ended(*_: Any) -> lifetime.Ending:
        return {"reason": reason, "message": "<Killed>"}

    async def host_stops() -> bool:
        return True

    def act(url: str) -> None:
        ann, boss = session(url, "ann"), session(url, "bob")
        server = start(ann)
        assert "last-end" not in ann.request("/hub/home")[2]
        monkeypatch.setattr(StagedSpawner, "why_ended", why_ended)
        if reason == "self":
            ann.stop()
        elif reason == "administrator":
            boss.api("/hub/api/users/ann/server", "DELETE", {"message": "<Noon>"})
        elif reason == "idle":
            server.said = {"idle": 100.0, "saving": 0}
        else:
            if reason == "reboot":
                monkeypatch.setattr(lifetime, "boot", lambda: "another")
            elif reason == "shutdown":
                monkeypatch.setattr(lifetime, "host_stops", host_stops)
            server.vanish()
            # JupyterHub looks at each server twice a minute, and before it stops one.
            ann.api("/hub/api/users/ann/server", "DELETE", {})
        wait_for(lambda: servers(ann, "ann") == {})
        # What a server that ended by itself has said is found out beside the hub's other work.
        wait_for(lambda: english in ann.request("/hub/home")[2])
        words = {"administrator": "&lt;Noon&gt;", **dict.fromkeys(("ended", "home"), "&lt;Killed&gt;")}.get(reason, "")
        for page in ("/hub/home", "/hub/spawn", "/hub/user/ann/lab"):
            for language, text in (("en", english), ("ru", russian)):
                shown = ann.request(page, headers={"Accept-Language": language})[2]
                assert text in shown, (page, language)
                assert words in shown
        server.said = StagedSpawner.first_said
        start(ann)
        ann.stop()
        wait_for(lambda: servers(ann, "ann") == {})
        assert "You have stopped it." in ann.request("/hub/home")[2]

    site.run(act)


def test_the_hub_waits_for_no_service_manager(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it lose the reason if it is stopped before it has an answer."""
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexec sleep 60\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(lifetime, "HOST_TIMEOUT", 60)

    def before(url: str) -> None:
        hub = session(url, "ann")
        start(hub).vanish()
        hub.api("/hub/api/users/ann/server", "DELETE", {})
        wait_for((tmp_path / "asked").exists)
        assert "It ended by itself." in hub.request("/hub/home")[2]
        monkeypatch.setattr(lifetime, "boot", lambda: "another")

    def after(url: str) -> None:
        assert "The host was restarted." in session(url, "ann").request("/hub/home")[2]

    site.run(before, after)


def ask_as_page(address: str) -> tuple[int, Any]:
    """Ask the hub about a server, as its open page does: without a cookie, and from another origin."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=30)
    connection.request("GET", parts.path, headers={"Origin": "http://ann.hub.example"})
    answer = connection.getresponse()
    body = json.loads(answer.read() or "null") if answer.status == 200 else None
    assert answer.status != 200 or answer.getheader("Access-Control-Allow-Origin") == "*"
    return answer.status, body


def state_address(server: StagedSpawner, url: str) -> str:
    return url + server.get_env()[lifetime.STATE_VARIABLE]


def test_an_open_page_is_told_why_its_server_has_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub says it, to a page of that run alone, when the server itself cannot."""
    told = threading.Event()

    async def why_ended(*_: Any) -> lifetime.Ending:
        await asyncio.to_thread(told.wait)
        return {"reason": "ended", "message": "Out of luck"}

    monkeypatch.setattr(StagedSpawner, "why_ended", why_ended)

    def act(url: str) -> None:
        hub = session(url, "ann")
        server = start(hub)
        address = state_address(server, url)
        assert ask_as_page(address) == (200, {"reason": "", "message": "", "final": False})
        place, _, key = address.rpartition("/")
        for wrong in (
            f"{place}/{'0' * 64}",
            f"{place}/{server.headers[0][SECRET_HEADER]}",
            address.replace("ann", "bob"),
        ):
            assert ask_as_page(wrong)[0] == 404
        server.vanish()
        hub.api("/hub/api/users/ann/server", "DELETE", {})
        wait_for(lambda: servers(hub, "ann") == {})
        assert ask_as_page(address) == (200, {"reason": "ended", "message": "", "final": False})
        told.set()
        wait_for(lambda: ask_as_page(address)[1]["final"])
        assert ask_as_page(address)[1]["message"] == "Out of luck"
        assert ask_as_page(f"{place}/{'0' * 64}")[0] == 404
        # Those of the next run are other pages.
        start(hub)
        assert ask_as_page(address)[0] == 404
        assert key not in state_address(StagedSpawner.newest, url)

    site.run(act)


def test_last_words_outlive_a_restart_of_the_hub(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are looked up for one server of a user at a moment."""
    under_way, most = 0, 0

    async def why_ended(*_: Any) -> lifetime.Ending:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.5)
        under_way -= 1
        return {"reason": "ended", "message": "Out of luck"}

    names = ("", "second", "third")

    def before(url: str) -> None:
        hub = session(url, "ann")
        ended = [start(hub, name) for name in names]
        monkeypatch.setattr(StagedSpawner, "why_ended", why_ended)
        for server, name in zip(ended, names, strict=True):
            server.vanish()
            hub.api(f"/hub/api/users/ann/servers/{name}", "DELETE", {})
        wait_for(lambda: hub.request("/hub/home")[2].count("Out of luck") == len(names))

    def after(url: str) -> None:
        assert session(url, "ann").request("/hub/home")[2].count("Out of luck") == len(names)

    site.run(before, after)
    assert most == 1


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("en", ["My limits", "2.5 GB", "12 h", "1.5 h", "What counts as activity", "unlimited"]),
        ("ru", ["Мои ограничения", "2.5 ГБ", "12 ч", "Что считается активностью", "без ограничения"]),
    ],
)
def test_my_limits_has_what_holds_for_the_user(
    site: Site, monkeypatch: pytest.MonkeyPatch, language: str, texts: list[str]
) -> None:
    async def look_up_limits(_: Any) -> dict[str, Any]:
        return {"memory": 5 << 29, "cpu": 1.5, "tasks": None}

    monkeypatch.setattr(StagedSpawner, "look_up_limits", look_up_limits, raising=False)
    limited(site, idle_timeout=43200, max_age=5400, extension_limit=3600)

    def act(url: str) -> None:
        hub = session(url, "ann")
        assert 'href="/hub/limits"' in hub.request("/hub/home")[2]
        status, _, page = hub.request("/hub/limits", headers={"Accept-Language": language})
        assert status == 200
        for text in texts:
            assert text in page, text
        assert "<td>1.5</td>" in page

    site.run(act)


def test_my_limits_are_for_those_who_have_logged_in(site: Site) -> None:
    site.run(_led_to_the_login)


def _led_to_the_login(url: str) -> None:
    assert "/hub/login" in Hub(url, "ann").request("/hub/limits")[1]


def test_maintenance_refuses_starts_and_ends_servers(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its time, and not those of administrators; called off, it is as before."""
    file = tmp_path / "maintenance.json"
    monkeypatch.setattr(maintenance, "FILE", file)
    monkeypatch.setattr(lifetime, "MAINTENANCE_INTERVAL", 0.2)

    def act(url: str) -> None:
        ann, boss = session(url, "ann"), session(url, "bob")
        running, own = start(ann), start(boss)
        at = time.time() + 8
        file.write_text(json.dumps({"from": at, "when": "2026-11-29 18:00 MSK", "stop": True}))
        wait_for(lambda: running.told[-1]["maintenance_left"] is not None)
        assert running.told[-1]["maintenance_left"] <= 8
        status, _, page = ann.press_start("/hub/spawn/ann/second")
        assert status == 503
        assert "There is maintenance from 2026-11-29 18:00 MSK on" in page
        assert ">Maintenance</h1>" in page
        russian = ann.press_start("/hub/spawn/ann/second", headers={"Accept-Language": "ru"})[2]
        assert "проводятся работы" in russian
        with pytest.raises(HubError, match=r"^503 .*maintenance"):
            ann.api("/hub/api/users/ann/servers/second", "POST", {})
        wait_for(lambda: servers(ann, "ann") == {})
        assert time.time() >= at
        assert running.told[-1]["ending"] == {"reason": "maintenance", "message": ""}
        assert "It was stopped for maintenance." in ann.request("/hub/home")[2]
        start(boss, "second")
        assert servers(boss, "bob") == {"": True, "second": True}
        assert own.told[-1]["maintenance_left"] is None
        file.unlink()
        start(ann)

    site.run(act)


def test_a_hub_that_comes_late_says_that_the_end_is_now(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The maintenance began while it was down. Pages save, and its journal names the maintenance."""
    monkeypatch.setattr(maintenance, "FILE", tmp_path / "maintenance.json")
    limited(site, save_timeout=120)

    def before(url: str) -> None:
        server = start(session(url, "ann"))
        server.said = {"idle": 0.0, "saving": 0, "waiting": 1}
        document = {"from": time.time() - 60, "when": "2026-11-29 18:00 MSK", "stop": True}
        maintenance.FILE.write_text(json.dumps(document))

    def after(url: str) -> None:
        hub = session(url, "ann")
        server = StagedSpawner.newest
        wait_for(ends(server, 2))
        assert StagedSpawner.running == {""}
        assert server.told[-1]["ending"] == {"reason": "maintenance", "message": ""}
        server.said = {"idle": 0.0, "saving": 0, "waiting": 0}
        wait_for(lambda: servers(hub, "ann") == {})

    site.run(before, after)
    assert "There is maintenance from 2026-11-29 18:00 MSK on" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", '{"from": "noon", "when": "noon", "stop": true}', '{"from": 0}'])
def test_a_broken_maintenance_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(maintenance, "FILE", tmp_path / "maintenance.json")
    assert maintenance.current() is None
    maintenance.FILE.write_text(content)
    assert maintenance.current() is None


def test_servers_are_left_alone_where_that_is_said(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "maintenance.json"
    monkeypatch.setattr(maintenance, "FILE", file)

    def act(url: str) -> None:
        file.write_text(json.dumps({"from": None, "when": "now", "stop": False}))
        hub = session(url, "ann")
        assert hub.press_start()[0] == 503
        file.unlink()
        server = start(hub)
        file.write_text(json.dumps({"from": None, "when": "now", "stop": False}))
        assert server.maintenance_left() is None

    site.run(act)


@pytest.mark.skipif(not os.environ.get("CAMPUSHUB_SCREENSHOTS"), reason="CAMPUSHUB_SCREENSHOTS names no directory")
@pytest.mark.parametrize("language", ["en-GB", "ru-RU"])
def test_pictures_of_limits_ends_and_maintenance(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    """For the user guide; what they show is tested above."""

    async def look_up_limits(_: Any) -> dict[str, Any]:
        return {"memory": 8 << 30, "cpu": 4.0, "tasks": 1024}

    monkeypatch.setattr(StagedSpawner, "look_up_limits", look_up_limits, raising=False)
    monkeypatch.setattr(maintenance, "FILE", tmp_path / "maintenance.json")
    limited(site, idle_timeout=43200, max_age=86400, extension_limit=14400)
    suffix = "-ru" if language == "ru-RU" else ""
    words = {"en-GB": "New memory at noon", "ru-RU": "В полдень ставим новую память"}[language]

    def act(url: str) -> None:
        ann, boss = session(url, "ann"), session(url, "bob")
        with chromium(tmp_path, [int(url.rpartition(":")[2])]) as browser:
            page = browser.new_context(locale=language, viewport={"width": 1000, "height": 760}).new_page()
            page.goto(f"{url}/hub/login")
            page.fill("#username_input", "ann")
            page.fill("#password_input", "right")
            with page.expect_navigation():
                page.click("#login_submit")
            # It is a click, which starts a server.
            wait_for(lambda: servers(ann, "ann") == {"": True})
            page.goto(f"{url}/hub/limits")
            keep_picture(page, f"limits{suffix}")
            page.set_viewport_size({"width": 1000, "height": 420})
            boss.api("/hub/api/users/ann/server", "DELETE", {"message": words})
            wait_for(lambda: servers(ann, "ann") == {})
            page.goto(f"{url}/hub/home")
            page.locator(".last-end").wait_for()
            keep_picture(page, f"last-end{suffix}")
            maintenance.FILE.write_text(json.dumps({"from": None, "when": "2026-11-29 18:00 MSK", "stop": True}))
            page.goto(f"{url}/hub/spawn")
            page.locator("#start").click()
            page.get_by_text("18:00 MSK").wait_for()
            keep_picture(page, f"maintenance{suffix}")

    site.run(act)


class RealSpawner(ChosenServer, lifetime.ServerLifetime, SimpleLocalProcessSpawner):  # type: ignore[misc]
    """Starts real servers with package campushub_session, as the user who runs the tests."""

    newest: RealSpawner

    def start_polling(self) -> None:
        """Make the server old once it is up, however long that has taken."""
        super().start_polling()
        self._began -= 8300

    def get_env(self) -> dict[str, str]:
        RealSpawner.newest = self
        environment: dict[str, str] = super().get_env()
        return {
            **environment,
            "PYTHONPATH": str(ROOT / "files" / "campushub_session"),
            "JUPYTERHUB_ACTIVITY_INTERVAL": "0",
        }


def test_a_real_server_is_told_and_asks_for_more_time(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub listens without a proxy; servers are asked at their own addresses, with their own tokens."""
    limited(site, max_age=10000, extension_limit=3600, end_warnings=[1800, 60])
    finish = configuration.finish

    def with_real_servers(c: Any, document: dict[str, Any]) -> None:
        finish(c, document)
        c.JupyterHub.spawner_class = RealSpawner
        c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{port}"
        c.RealSpawner = c.CampusSpawner
        c.RealSpawner.home_dir_template = str(tmp_path / "{username}")
        c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
        c.Spawner.notebook_dir, c.Spawner.environment = "", {}
        extensions = {"campushub_session": True, "jupyterlab": True}
        c.Spawner.args = ["--allow-root", f"--ServerApp.jpserver_extensions={extensions}"]

    port = random_port()
    monkeypatch.setattr(configuration, "finish", with_real_servers)

    def ask_server(path: str, method: str = "GET") -> Any:
        server = RealSpawner.newest
        connection = HTTPConnection(server.server.ip, server.server.port, timeout=30)
        connection.request(method, f"/user/ann/{path}", "", {"Authorization": f"token {server.api_token}"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status < 300, body
        return json.loads(body) if body else None

    def act(url: str) -> None:
        hub = session(url, "ann")
        hub.api("/hub/api/users/ann/server", "POST", {})
        wait_for(lambda: servers(hub, "ann") == {"": True})
        wait_for(lambda: ask_server("api/session/usage")["seconds_left"] is not None)
        wait_for(lambda: ask_server("api/session/end")["reason"] == "max_age")
        assert ask_server("api/session/end")["stays"]
        assert ask_server("api/session/end", "POST")["seconds_left"] == 0
        assert RealSpawner.newest.extended == 3600
        assert ask_server("api/session/usage")["seconds_left"] > 1800
        ask_server("api/session/end", "PUT")
        wait_for(lambda: servers(hub, "ann") == {})
        assert "You have stopped it." in hub.request("/hub/home")[2]

    site.run(act, port=port)


@pytest.mark.attack
def test_ends_of_one_users_servers_keep_others_explanations_free() -> None:
    """However long they take, and however many there are."""

    async def scenario() -> None:
        order: list[str] = []
        forever = asyncio.Event()

        async def explain(user: str) -> None:
            async with lifetime.explanation_of(user):
                order.append(user)
                if user == "ann":
                    await forever.wait()

        tasks = [asyncio.ensure_future(explain(user)) for user in ("ann", "ann", "ann", "bob", "carl")]
        await asyncio.wait(tasks[3:], timeout=10)
        assert order == ["ann", "bob", "carl"]
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())
