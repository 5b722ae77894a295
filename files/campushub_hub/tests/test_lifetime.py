"""Ends of servers: a real hub, with real web servers in the place of users' servers and their extension."""

from __future__ import annotations

import json
import sys
import threading
import time
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from jupyterhub import orm
from jupyterhub.spawner import SimpleLocalProcessSpawner
from jupyterhub.utils import random_port
from tests.hub_client import Hub, HubError
from tests.settings.validation import ROOT

from campushub_hub import configuration, maintenance
from campushub_hub.spawners import lifetime
from campushub_hub.spawners.lifetime import SECRET_HEADER

from .conftest import merged
from .test_handlers import Site, StagedSpawner, servers, session, wait_for


@pytest.fixture
def site(tmp_path: Path, rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, rendered["systemd"]["settings"], monkeypatch)


def limited(site: Site, **settings: Any) -> None:
    site.settings = merged(site.settings, CampusSpawner=settings)


def start(hub: Hub, name: str = "") -> StagedSpawner:
    hub.api(f"/hub/api/users/{hub.user}/servers/{name}", "POST", {})
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


@pytest.mark.parametrize("said", [None, {}, {"idle": "nan", "saving": 0}, {"idle": -5, "saving": 0}, "x" * 20_000])
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
        server = start(hub)
        began = time.monotonic()
        assert 2 < server.told[0]["age_left"] <= 3
        wait_for(lambda: servers(hub, "ann") == {})
        assert time.monotonic() - began < 6
        assert server.told[-1]["ending"]["reason"] == "max_age"

    site.run(act)


def test_pages_that_save_are_waited_for(site: Site) -> None:
    """Not indefinitely."""
    limited(site, save_timeout=4)

    def act(url: str) -> None:
        hub = session(url, "ann")
        for done in (True, False):
            server = start(hub)
            server.said = {"idle": 0.0, "saving": 1}
            began = time.monotonic()
            if done:
                threading.Timer(2, lambda: server.said.update(saving=0)).start()  # noqa: B023 (is of this turn)
            hub.stop()
            wait_for(lambda: servers(hub, "ann") == {})
            assert (2 if done else 4) <= time.monotonic() - began < (4 if done else 8)

    site.run(act)


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
        ("reboot", "The host was restarted.", "Узел был перезагружен."),
    ],
)
def test_the_last_end_has_its_reason_at_the_next_visit(
    site: Site, monkeypatch: pytest.MonkeyPatch, reason: str, english: str, russian: str
) -> None:
    """On the home page, and where the server's address leads; until it runs again."""
    if reason == "idle":
        limited(site, idle_timeout=2)

    async def last_words(*_: Any) -> str:
        return "<Killed>"

    def act(url: str) -> None:
        ann, boss = session(url, "ann"), session(url, "bob")
        server = start(ann)
        assert "last-end" not in ann.request("/hub/home")[2]
        monkeypatch.setattr(StagedSpawner, "last_words", last_words)
        if reason == "self":
            ann.stop()
        elif reason == "administrator":
            boss.api("/hub/api/users/ann/server", "DELETE", {"message": "<Noon>"})
        elif reason == "idle":
            server.said = {"idle": 100.0, "saving": 0}
        else:
            if reason == "reboot":
                monkeypatch.setattr(lifetime, "boot", lambda: "another")
            server.vanish()
            # JupyterHub looks at each server twice a minute, and before it stops one.
            ann.api("/hub/api/users/ann/server", "DELETE", {})
        wait_for(lambda: servers(ann, "ann") == {})
        words = {"administrator": "&lt;Noon&gt;", "ended": "&lt;Killed&gt;"}.get(reason, "")
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
        file.write_text(json.dumps({"from": time.time() + 4, "stop": True}))
        wait_for(lambda: running.told[-1]["maintenance_left"] is not None)
        assert 2 < running.told[-1]["maintenance_left"] <= 4
        status, _, page = ann.press_start("/hub/spawn/ann/second")
        assert status == 503
        assert "There is maintenance from 20" in page
        assert ">Maintenance</h1>" in page
        russian = ann.press_start("/hub/spawn/ann/second", headers={"Accept-Language": "ru"})[2]
        assert "проводятся работы" in russian
        with pytest.raises(HubError, match=r"^503 .*maintenance"):
            ann.api("/hub/api/users/ann/servers/second", "POST", {})
        wait_for(lambda: servers(ann, "ann") == {})
        assert running.told[-1]["ending"] == {"reason": "maintenance", "message": ""}
        assert "It was stopped for maintenance." in ann.request("/hub/home")[2]
        start(boss, "second")
        assert servers(boss, "bob") == {"": True, "second": True}
        assert own.told[-1]["maintenance_left"] is None
        file.unlink()
        start(ann)

    site.run(act)


@pytest.mark.parametrize("content", ["", "[]", '{"from": "noon", "stop": true}', '{"from": 0}'])
def test_a_broken_maintenance_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(maintenance, "FILE", tmp_path / "maintenance.json")
    assert maintenance.current() is None
    maintenance.FILE.write_text(content)
    assert maintenance.current() is None


def test_servers_are_left_alone_where_that_is_said(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "maintenance.json"
    monkeypatch.setattr(maintenance, "FILE", file)

    def act(url: str) -> None:
        file.write_text(json.dumps({"from": None, "stop": False}))
        hub = session(url, "ann")
        assert hub.press_start()[0] == 503
        file.unlink()
        server = start(hub)
        file.write_text(json.dumps({"from": None, "stop": False}))
        assert server.maintenance_left() is None

    site.run(act)


class RealSpawner(lifetime.ServerLifetime, SimpleLocalProcessSpawner):  # type: ignore[misc]
    """Starts real servers with package campushub_session, as the user who runs the tests."""

    newest: RealSpawner

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
    limited(site, max_age=40, extension_limit=30)
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
        assert RealSpawner.newest.extended == 30
        assert ask_server("api/session/usage")["seconds_left"] > 30
        ask_server("api/session/end", "PUT")
        wait_for(lambda: servers(hub, "ann") == {})
        assert "You have stopped it." in hub.request("/hub/home")[2]

    site.run(act, port)
