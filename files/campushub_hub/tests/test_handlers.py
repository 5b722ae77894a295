"""Pages and calls that start and stop servers, at a real hub with stand-ins for its proxy, PAM and users' servers."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection, HTTPMessage, responses
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.app import JupyterHub
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.spawner import Spawner
from jupyterhub.utils import random_port
from tests.chromium import chromium
from tests.hub_client import Hub, HubError
from tornado.httpserver import HTTPServer
from tornado.web import Application, HTTPError, RequestHandler

from campushub_hub import accounts, configuration, handlers
from campushub_hub.auth import pam
from campushub_hub.handlers import remember_click
from campushub_hub.host import user_session
from campushub_hub.profiles import Offer
from campushub_hub.spawners import ServerStartError
from campushub_hub.spawners.base import ENDED
from campushub_hub.spawners.choices import ChosenServer
from campushub_hub.spawners.lifetime import ServerLifetime

from .conftest import merged

GROUPS = {"bob": frozenset({"physics"})}
UIDS = {"ann": 2001, "bob": 2002, "dora": 2003, "root": 0}


class Server(RequestHandler):
    """A stand-in for a server with campushub_session: says what its test wants, and keeps what it hears."""

    def initialize(self, name: str) -> None:
        self.spawner = StagedSpawner.started[name]

    async def get(self) -> None:
        await self.silence()
        self.write({})

    async def put(self) -> None:
        assert self.request.path.endswith("/api/session/hub")
        self.spawner.told.append(json.loads(self.request.body))
        self.spawner.headers.append(dict(self.request.headers))
        await self.silence()
        if self.spawner.said is None:
            raise HTTPError(404)
        self.write(json.dumps(self.spawner.said))

    async def silence(self) -> None:
        while self.spawner.silent:  # noqa: ASYNC110 (set by other threads)
            await asyncio.sleep(0.02)


class StagedSpawner(ChosenServer, ServerLifetime, Spawner):  # type: ignore[misc]
    """A stand-in for users' servers: starts when it is told to, or fails, and counts. It outlives its hub."""

    newest: StagedSpawner
    first_said: Any = None
    held = False
    failure: Exception | None = None
    starts: list[str]
    running: set[str]
    started: dict[str, StagedSpawner]
    served: HTTPServer | None = None
    # Whether it takes what the hub tells it, and does not answer.
    silent = False
    # Seconds that a start takes until it notices that it is given up.
    lingers = 0.0

    # Of the users in the tests, over all their servers.
    _limits = user_session.Limits(memory=4 * 2**30, cpu=2.0, tasks=None)
    _groups: frozenset[str] = frozenset()

    async def look_up_offers(self) -> tuple[Offer, ...]:
        self._groups = GROUPS.get(self.user.name, frozenset())
        return self.offers()

    def memory_use(self) -> tuple[int, Any]:
        return 2**29, self.mem_limit

    async def start(self) -> tuple[str, int]:
        if self.profiles:
            await self.look_up_offers()
            self.apply_choice()
        StagedSpawner.starts.append(f"{self.user.name}/{self.name}")
        try:
            while StagedSpawner.held:  # noqa: ASYNC110 (set by other threads)
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            await asyncio.sleep(StagedSpawner.lingers)
            raise
        if StagedSpawner.failure:
            raise StagedSpawner.failure
        port = random_port()
        # The hub gives its secret in it.
        self.get_env()
        self.said: Any = StagedSpawner.first_said
        self.told: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        StagedSpawner.newest = StagedSpawner.started[self._log_name] = self
        self.served = HTTPServer(Application([(".*", Server, {"name": self._log_name})]))
        self.served.listen(port, "127.0.0.1")
        StagedSpawner.running.add(self.name)
        return "127.0.0.1", port

    def load_state(self, state: dict[str, Any]) -> None:
        """Find a server that an earlier hub has started."""
        super().load_state(state)
        earlier = StagedSpawner.started.get(self._log_name)
        if earlier and earlier.served:
            self.served, self.silent, self.said = earlier.served, earlier.silent, earlier.said
            self.told, self.headers = [], []
            StagedSpawner.newest = StagedSpawner.started[self._log_name] = self

    async def poll(self) -> int | None:
        return None if self.served else 0

    async def stop(self, now: bool = False) -> None:  # noqa: ARG002 (JupyterHub's signature)
        self.vanish()

    def vanish(self) -> None:
        """End, as a server that is killed."""
        assert self.served
        self.served.stop()
        self.served = None
        StagedSpawner.running.remove(self.name)


class Site:
    """A hub that listens, and what its tests do at it, from threads of their own."""

    def __init__(self, directory: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        for secret in ("JPY_COOKIE_SECRET", "CONFIGPROXY_AUTH_TOKEN", "CAMPUSHUB_ROUTES_TOKEN"):
            monkeypatch.setenv(secret, "0123456789abcdef" * 4)
        monkeypatch.setattr(configuration, "STATE_DIRECTORY", directory)
        monkeypatch.setattr(configuration, "SITE_DIRECTORY", directory / "etc")
        self.settings = merged(
            settings,
            Authenticator={"allowed_users": ["ann", "bob"], "admin_users": ["bob"]},
            CampusSpawner={"idle_timeout": 0},
            JupyterHub={"named_server_limit_per_user": 2},
        )
        monkeypatch.setattr(configuration, "read_settings", lambda: self.settings)
        finish = configuration.finish

        def with_stand_in(c: Any, document: dict[str, Any]) -> None:
            finish(c, document)
            c.JupyterHub.spawner_class = StagedSpawner
            c.StagedSpawner = c.CampusSpawner
            c.JupyterHub.tornado_settings = {
                **c.JupyterHub.tornado_settings,
                "slow_spawn_timeout": self.slow_spawn_timeout,
            }

        monkeypatch.setattr(configuration, "finish", with_stand_in)
        monkeypatch.setattr(pam, "ask", lambda *_: (0, True))
        self.directory_seconds = 0.0
        self.slow_spawn_timeout = 0.5
        self.proxy_fails = False

        def find(name: str) -> accounts.Account | None:
            time.sleep(self.directory_seconds)
            return accounts.Account(name, UIDS[name], frozenset()) if name in UIDS else None

        monkeypatch.setattr(accounts, "find", find)
        StagedSpawner.held, StagedSpawner.failure, StagedSpawner.lingers = False, None, 0.0
        StagedSpawner.first_said = {"idle": 0.0, "saving": 0}
        StagedSpawner.starts, StagedSpawner.running, StagedSpawner.started = [], set(), {}

    def run(self, *acts: Callable[[str], None], port: int = 0) -> None:
        """Do what tests do at a hub; for each further one the hub is started again, and servers run on."""

        async def proxy(*_: Any) -> None:
            if self.proxy_fails:
                raise OSError("There is no proxy.")

        async def whole(act: Callable[[str], None]) -> None:
            app = JupyterHub(config_file=f"{configuration.LIBRARY}/jupyterhub_config.py")
            await app.initialize([])
            app.proxy.add_user = app.proxy.delete_user = proxy
            listening = HTTPServer(app.tornado_application)
            listens = port or random_port()
            listening.listen(listens, "127.0.0.1")
            try:
                await asyncio.to_thread(act, f"http://127.0.0.1:{listens}")
            finally:
                listening.stop()
                StagedSpawner.held = False
                for user in app.users.values():
                    for spawner in user.spawners.values():
                        spawner.stop_polling()
                app.db.close()

        async def one_after_another() -> None:
            for act in acts:
                await whole(act)

        asyncio.run(one_after_another())


@pytest.fixture
def site(tmp_path: Path, rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, rendered["systemd"]["settings"], monkeypatch)


def session(url: str, user: str) -> Hub:
    hub = Hub(url, user)
    hub.login("right")
    return hub


def servers(hub: Hub, user: str) -> dict[str, bool]:
    """Which servers of a user there are, and whether they are ready."""
    return {name: server["ready"] for name, server in hub.api(f"/hub/api/users/{user}")["servers"].items()}


def wait_for(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["page", "call"])
def test_a_start_that_is_asked_for_twice_is_one(site: Site, way: str) -> None:
    """Wide open while the directory is slow: ten requests of one person, as of a browser that opens its tabs again."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        site.directory_seconds, StagedSpawner.held = 0.5, True
        with ThreadPoolExecutor(10) as pool:
            if way == "page":
                answers = list(pool.map(lambda _: hub.press_start()[:2], range(10)))
                assert set(answers) == {(200, f"{url}/hub/spawn-pending/ann")}
            else:
                asked = [pool.submit(hub.api, "/hub/api/users/ann/server", "POST", {}) for _ in range(10)]
                time.sleep(2)
                StagedSpawner.held = False
                assert [one.result() for one in asked] == [None] * 10
        assert StagedSpawner.starts == ["ann/"]
        StagedSpawner.held = False
        wait_for(lambda: servers(hub, "ann") == {"": True})

    site.run(act)


def test_a_server_that_does_not_answer_is_on_the_home_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StagedSpawner, "unresponsive", True, raising=False)
    monkeypatch.setattr(StagedSpawner, "home_problem", "<silence>", raising=False)

    def act(url: str) -> None:
        hub = session(url, "ann")
        assert "does not answer" not in hub.request("/hub/home")[2]
        hub.api("/hub/api/users/ann/servers/second", "POST", {})
        wait_for(lambda: servers(hub, "ann") == {"second": True})
        assert "Your server second runs, but it does not answer." in hub.request("/hub/home")[2]
        hub.api("/hub/api/users/ann/server", "POST", {})
        wait_for(lambda: servers(hub, "ann").get("") is True)
        russian = hub.request("/hub/home", headers={"Accept-Language": "ru"})[2]
        assert "Ваш сервер работает, но не отвечает." in russian
        assert "Он перестал отвечать, когда ваш домашний каталог был недоступен: <code" in russian
        assert "&lt;silence&gt;</code>." in russian

    site.run(act)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_start_past_the_limit_waits_on_its_page(site: Site, language: str) -> None:
    site.settings = merged(site.settings, JupyterHub={"active_server_limit": 1})

    def act(url: str) -> None:
        bob = session(url, "bob")
        bob.api("/hub/api/users/bob/server", "POST", {})
        hub = session(url, "ann")
        status, _, page = hub.press_start(headers={"Accept-Language": language})
        assert status == 429
        assert {"en": "All places are taken", "ru": "Все места заняты"}[language] in page
        # The page asks like this again, every 30 s.
        assert re.search(r"setTimeout\(again, 30000\)", page)
        with pytest.raises(HubError, match=r"^429"):
            hub.api("/hub/api/users/ann/server", "POST", {})
        bob.stop()
        wait_for(lambda: not servers(bob, "bob"))
        hub.api("/hub/api/users/ann/server", "POST", {})
        wait_for(lambda: servers(hub, "ann") == {"": True})

    site.run(act)


def test_a_start_among_too_many_says_so(site: Site) -> None:
    site.settings = merged(site.settings, JupyterHub={"concurrent_spawn_limit": 1})

    def act(url: str) -> None:
        StagedSpawner.held = True
        session(url, "bob").press_start()
        status, _, page = session(url, "ann").press_start()
        assert status == 429
        assert "Many servers start at this moment" in page

    site.run(act)


@pytest.mark.parametrize("slow", [False, True])
def test_a_start_that_fails_is_explained_with_what_helps(
    site: Site, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, slow: bool
) -> None:
    failure = ServerStartError(ENDED)
    failure.line, failure.file, failure.number = "NameError: <b>", "/home/ann/.jupyter/jupyter_server_config.py", 3
    StagedSpawner.failure = failure
    if not slow:
        site.slow_spawn_timeout = 30

    def act(url: str) -> None:
        hub = session(url, "ann")
        StagedSpawner.held = slow
        asked = ThreadPoolExecutor(1).submit(hub.press_start)
        if slow:
            assert "Your server is starting." in asked.result()[2]
            assert "Its program is starting." in asked.result()[2]
            StagedSpawner.held = False
            wait_for(lambda: not servers(hub, "ann"))
        status, address, page = hub.request("/hub/spawn-pending/ann") if slow else asked.result()
        assert (status, address) == (500, f"{url}/hub/spawn-pending/ann")
        for text in (ENDED, "NameError: &lt;b&gt;", "jupyter_server_config.py, line 3", failure.reference):
            assert text in page, text
        _, _, russian = hub.request("/hub/spawn-pending/ann", headers={"Accept-Language": "ru"})
        assert all(f">{word}<" in russian for word in ("Главная", "Токены", "Выйти"))
        assert "Ваш сервер завершился во время запуска." in russian
        assert "Речь идёт о /home/ann/.jupyter/jupyter_server_config.py, строка 3." in russian
        link = re.search(r'id="start-without-settings"[^>]*href="([^"]*)"', page)
        assert link
        StagedSpawner.failure = None
        hub.press_start(link[1])
        wait_for(lambda: servers(hub, "ann") == {"": True})
        assert StagedSpawner.starts == ["ann/", "ann/"]

    site.run(act)
    journal = capsys.readouterr().err
    # JupyterHub repeats it whenever the page is shown.
    first = next(line for line in journal.splitlines() if failure.reference in line and "Previous" not in line)
    assert "Not starting ann's server" in first
    assert "jupyter_server_config.py:3" in first
    assert "ServerStartError" not in journal, "the end of a traceback"
    assert not [record for record in caplog.records if record.exc_info]


def test_a_server_of_root_is_refused_in_words(site: Site) -> None:
    def act(url: str) -> None:
        boss = session(url, "bob")
        for name, words in (("root", "root is an account of the system"), ("dora", "dora may not use this service.")):
            boss.api(f"/hub/api/users/{name}", "POST", {})
            with pytest.raises(HubError, match=rf"^403 .*{words}"):
                boss.api(f"/hub/api/users/{name}/server", "POST", {})
            status, _, page = boss.press_start(f"/hub/spawn/{name}")
            assert status == 403
            assert words in page
        _, _, page = boss.press_start("/hub/spawn/root", headers={"Accept-Language": "ru"})
        assert "root — системная учётная запись, а не человек." in page
        assert StagedSpawner.starts == []

    site.run(act)


def test_a_pending_page_stops_the_server_that_it_shows(site: Site) -> None:
    """Of an administrator who looks as well, and not the default server, nor that of who looks."""

    def act(url: str) -> None:
        hub, boss = session(url, "ann"), session(url, "bob")
        hub.api("/hub/api/users/ann/server", "POST", {})
        StagedSpawner.held = True
        hub.api("/hub/api/users/ann/servers/second", "POST", {})
        for looks in (hub, boss):
            _, _, page = looks.request("/hub/spawn-pending/ann/second")
            assert 'id="stop-server-btn"' not in page, "the button that JupyterHub's script listens to"
            assert re.search(r'const user = "ann";\s+const server = "second";', page)
            assert "api.stop_named_server(user, server, options)" in page
        hub.api("/hub/api/users/ann/servers/second", "DELETE", {})
        wait_for(lambda: servers(hub, "ann") == {"": True})

    site.run(act)


@pytest.mark.parametrize("how", ["lingers", "without a proxy"])
def test_a_start_that_is_given_up_leaves_nothing(site: Site, how: str) -> None:
    """Be it asked for twice: no error, and no server that never ends and never runs."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        for path in ("server", "servers/second"):
            StagedSpawner.held, StagedSpawner.lingers = True, 1.5 if how == "lingers" else 0.0
            hub.api(f"/hub/api/users/ann/{path}", "POST", {})
            site.proxy_fails = how == "without a proxy"
            with ThreadPoolExecutor(2) as pool:
                asked = [pool.submit(hub.api, f"/hub/api/users/ann/{path}", "DELETE") for _ in range(2)]
                assert [one.result() for one in asked] == [None, None]
            wait_for(lambda: servers(hub, "ann") == {})
            StagedSpawner.held = site.proxy_fails = False
            hub.api(f"/hub/api/users/ann/{path}", "POST", {})
            wait_for(lambda: list(servers(hub, "ann").values()) == [True])
            hub.api(f"/hub/api/users/ann/{path}", "DELETE")
            wait_for(lambda: servers(hub, "ann") == {})
        assert len(StagedSpawner.starts) == 4

    site.run(act)


@pytest.mark.parametrize("way", ["page", "call"])
def test_who_waits_for_a_start_that_is_given_up_is_answered(site: Site, way: str) -> None:
    site.slow_spawn_timeout = 30

    def act(url: str) -> None:
        hub = session(url, "ann")
        StagedSpawner.held = True
        with ThreadPoolExecutor(1) as pool:
            ask = hub.press_start if way == "page" else partial(hub.api, "/hub/api/users/ann/server", "POST", {})
            asked = pool.submit(ask)
            wait_for(lambda: StagedSpawner.starts == ["ann/"])
            hub.api("/hub/api/users/ann/server", "DELETE")
            if way == "page":
                assert asked.result(10)[0] < 500
            else:
                with pytest.raises(HubError, match=r"^409"):
                    asked.result(10)
        assert servers(hub, "ann") == {}

    site.run(act)


@pytest.mark.parametrize("pending", [False, True])
def test_a_user_is_deleted_after_all_their_servers(site: Site, pending: bool) -> None:
    def act(url: str) -> None:
        hub, boss = session(url, "ann"), session(url, "bob")
        hub.api("/hub/api/users/ann/server", "POST", {})
        StagedSpawner.held = pending
        hub.api("/hub/api/users/ann/servers/second", "POST", {})
        wait_for(lambda: StagedSpawner.running == ({""} if pending else {"", "second"}))
        with pytest.raises(HubError, match=r"^403"):
            hub.api("/hub/api/users/bob", "DELETE")
        boss.api("/hub/api/users/ann", "DELETE")
        assert [user["name"] for user in boss.api("/hub/api/users")] == ["bob"]
        assert StagedSpawner.running == set()

    site.run(act)


def test_who_deletes_themselves_is_refused_with_servers_kept(site: Site) -> None:
    def act(url: str) -> None:
        boss = session(url, "bob")
        boss.api("/hub/api/users/bob/server", "POST", {})
        with pytest.raises(HubError, match=r"^400"):
            boss.api("/hub/api/users/bob", "DELETE")
        wait_for(lambda: servers(boss, "bob") == {"": True})

    site.run(act)


CLICK = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1"}


# What browsers say of a link in a mail, on another site, on a page of another user, and of a script of the hub's.
LINKS: list[tuple[str, dict[str, str]]] = [
    ("/hub/spawn", {}),
    ("/hub/spawn/ann?opt-profile=large", {"Sec-Fetch-Site": "none", "Sec-Fetch-User": "?1"}),
    ("/hub/spawn/ann/second?profile=x", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-User": "?1"}),
    ("/hub/spawn/ann", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-User": "?1"}),
    ("/hub/spawn", {"Sec-Fetch-Site": "same-origin"}),
]


def test_no_link_starts_a_server(site: Site) -> None:
    """It shows what it asks for, and a button; nothing is left in the database either, such as a further server."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        for path, headers in LINKS:
            status, _, page = hub.request(path, headers=headers)
            assert status == 200
            assert "requestSubmit" not in page, (path, headers)
            assert ('id="options"' in page) == ("profile" in path)
            assert ">Start the server</button>" in page
        time.sleep(1)
        assert StagedSpawner.starts == []
        assert servers(hub, "ann") == {}
        assert 'data-server-name="second"' not in hub.request("/hub/home")[2]

    site.run(act)


def test_a_click_on_a_page_of_the_hub_starts_a_server(site: Site) -> None:
    """The page sends its form itself; a form of another site lacks the token in it."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        assert "requestSubmit" in hub.request("/hub/spawn/ann/second?opt-profile=large", headers=CLICK)[2]
        assert hub.request("/hub/spawn/ann", "POST", b"profile=large")[0] == 403
        assert StagedSpawner.starts == []
        address = hub.press_start("/hub/spawn/ann/second?opt-profile=large&next=%2Fuser%2Fann%2Fsecond%2Fx", CLICK)[1]
        assert address.startswith(f"{url}/hub/spawn-pending/ann/second?next=") or "/user/ann/second/x" in address
        wait_for(lambda: servers(hub, "ann") == {"second": True})
        options = session(url, "bob").api("/hub/api/users/ann")["servers"]["second"]["user_options"]
        assert options == {"profile": ["large"]}
        # Whoever presses it in a second tab is led to the server.
        assert "/user/ann/second" in hub.request("/hub/spawn/ann/second", headers=CLICK)[1]

    site.run(act)


@pytest.mark.parametrize("held", [False, True])
def test_start_on_the_home_page_leads_to_the_server_itself(site: Site, held: bool) -> None:
    """One request and its answer, where the server is there within a second; then the page that waits."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        form = re.search(
            r'<form action="(/hub/spawn/ann)" method="post">\s*<input type="hidden" name="_xsrf" value="([^"]+)">'
            r'\s*<button id="start"',
            hub.request("/hub/home")[2],
        )
        assert form
        StagedSpawner.held = held
        connection = HTTPConnection(url.removeprefix("http://"))
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in hub.cookies)
        headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", form[1], urllib.parse.urlencode({"_xsrf": form[2]}), headers)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (302, "/hub/spawn-pending/ann" if held else "/user/ann/")
        connection.close()

    site.run(act)


def test_a_remembered_click_counts_once_and_for_its_user(site: Site) -> None:
    """Another user, whose page has set it in the visitor's browser, starts nothing with it."""
    site.settings = merged(site.settings, JupyterHub={"authenticator_class": f"{__name__}.ElsewhereAuthenticator"})

    def act(url: str) -> None:
        def starts(hub: Hub) -> bool:
            return "requestSubmit" in hub.request("/hub/spawn", headers={"Sec-Fetch-Site": "cross-site"})[2]

        ann, bob = session(url, "ann"), session(url, "bob")
        for hub in (ann, bob):
            hub.request("/hub/elsewhere")
        for cookie in ann.cookies:
            if cookie.name == handlers.CLICK_COOKIE:
                bob.cookies.set_cookie(cookie)
        assert not starts(bob)
        assert [starts(ann), starts(ann)] == [True, False]

    site.run(act)


@pytest.mark.attack
@pytest.mark.parametrize("origin", ["cross-site", "same-site"])
def test_a_page_of_somebody_else_logs_nobody_out(site: Site, origin: str) -> None:
    """With names for users their servers' pages are of the same site. There is a form, for Lab's menu leads there."""

    def act(url: str) -> None:
        hub = session(url, "ann")

        def is_logged_in() -> bool:
            return hub.request("/hub/home")[1].endswith("/hub/home")

        _, _, page = hub.request("/hub/logout", headers={"Sec-Fetch-Site": origin, "Sec-Fetch-Mode": "navigate"})
        assert "Do you want to log out?" in page
        action, xsrf = re.search(
            r'action="([^"]+)" method="post">\s*<input type="hidden" name="_xsrf" value="([^"]+)"', page
        ).groups()  # type: ignore[union-attr]
        assert hub.request(action, "POST", b"_xsrf=another")[0] == 403
        assert is_logged_in()
        hub.request(action, "POST", urllib.parse.urlencode({"_xsrf": xsrf}).encode())
        assert not is_logged_in()

    site.run(act)


def test_a_click_on_a_page_of_the_hub_logs_out(site: Site) -> None:
    def act(url: str) -> None:
        for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
            hub = session(url, "ann")
            hub.request("/hub/logout", headers=headers)
            assert not hub.request("/hub/home")[1].endswith("/hub/home")

    site.run(act)


class Elsewhere(BaseHandler):  # type: ignore[misc]
    """A stand-in for the way to a provider and back, after a click."""

    async def get(self) -> None:
        remember_click(self, await self.get_current_user())


class ElsewhereAuthenticator(pam.CampusPAMAuthenticator):
    """Its logins begin with a link, as those at a provider do."""

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        return [*super().get_handlers(app), ("/elsewhere", Elsewhere)]


@pytest.mark.parametrize("access", [True, False])
def test_administrators_open_others_servers_if_they_may(site: Site, access: bool) -> None:
    """Nor can they give themselves that right, by a token of the other or by a share; starts and stops stay."""
    site.settings = merged(site.settings, CampusAuthenticator={"admin_access": access})

    def act(url: str) -> None:
        boss = session(url, "bob")
        session(url, "ann")
        boss.api("/hub/api/users/ann/server", "POST", {})
        wait_for(lambda: servers(boss, "ann") == {"": True})
        scopes = set(boss.api("/hub/api/user")["scopes"])
        assert ("access:servers" in scopes) == access
        assert {"admin-ui", "servers"} <= scopes
        if not access:
            assert boss.request("/hub/user/ann/lab")[0] == 404
        for path, body in (("users/ann/tokens", {}), ("shares/ann/", {"user": "bob"})):
            if access:
                assert boss.api(f"/hub/api/{path}", "POST", body)
            else:
                with pytest.raises(HubError, match=r"^40[34]"):
                    boss.api(f"/hub/api/{path}", "POST", body)
        # Nor by becoming the other, or by what opens the other's things elsewhere.
        with pytest.raises(HubError, match=r"^403 .*named as the account of the host"):
            boss.api("/hub/api/users/bob", "PATCH", {"name": "somebody"})
        assert ("auth_state" in boss.api("/hub/api/users/ann")) == access
        if not access:
            with pytest.raises(HubError, match=r"^403"):
                boss.api("/hub/api/proxy", "PATCH", {"api_url": "http://127.0.0.1:1"})
        boss.api("/hub/api/users/ann/server", "DELETE")
        wait_for(lambda: servers(boss, "ann") == {})

    site.run(act)


def test_no_script_reads_the_hubs_token(site: Site) -> None:
    """Everything under one name could use it otherwise. It is in the hub's pages, which load nothing of users."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        assert [c.has_nonstandard_attr("HttpOnly") for c in hub.cookies if c.name == "_xsrf"] == [True]
        assert re.search(r'xsrf_token: "[^"]+"', hub.request("/hub/home")[2])

    site.run(act)


def test_cookies_and_pages_of_the_hub_have_its_name_alone(site: Site) -> None:
    """Where users have names of their own: no other name can set these cookies, nor is the hub under one of theirs."""
    host = "https://hub.example.test:8443"
    site.settings = merged(site.settings, JupyterHub={"subdomain_host": host, "cookie_host_prefix_enabled": True})

    def ask(url: str, path: str, headers: dict[str, str], form: str | None = None) -> HTTPMessage:
        connection = HTTPConnection(urllib.parse.urlsplit(url).netloc)
        connection.request("POST" if form else "GET", path, form, headers)
        return connection.getresponse().headers

    def act(url: str) -> None:
        headers = ask(url, "/user/ann/lab?x=1", {"Host": "ann.hub.example.test:8443"})
        assert headers["Location"] == f"{host}/hub/user/ann/lab?x=1"
        hub = Hub(url, "ann")
        hub.request("/hub/login")
        token = hub.xsrf("/hub/")
        form = urllib.parse.urlencode({"username": "ann", "password": "right", "_xsrf": token})
        kind = "application/x-www-form-urlencoded"
        agent = f"Python-urllib/{sys.version_info.major}.{sys.version_info.minor}"
        sent = {"Cookie": f"_xsrf={token}", "Content-Type": kind, "User-Agent": agent}
        cookies = ask(url, "/hub/login", sent, form).get_all("Set-Cookie", [])
        login = next(cookie for cookie in cookies if cookie.startswith("__Host-jupyterhub-hub-login="))
        assert {"HttpOnly", "Path=/", "Secure", "SameSite=Lax"} <= set(login.split("; "))
        assert "domain" not in login.lower()

    site.run(act)


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
@pytest.mark.parametrize(("language", "words"), [("en-GB", "<b>Slow</b>"), ("ru-RU", "Медленно")])
def test_announcements_reach_open_pages(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, words: str
) -> None:
    """That of the login as well; the page asks every 15 s."""
    file = tmp_path / "announcement.json"
    monkeypatch.setattr(handlers, "ANNOUNCEMENT", file)
    document = {"id": "1", "texts": {"": "<b>Slow</b>", "ru": "Медленно"}, "from": None, "until": None}

    def act(url: str) -> None:
        with chromium(tmp_path, [int(url.rpartition(":")[2])]) as browser:
            page = browser.new_context(locale=language).new_page()
            page.clock.install()
            page.goto(f"{url}/hub/login")
            box = page.locator("#campushub-announcement")
            assert box.is_hidden()
            file.write_text(json.dumps(document))
            page.clock.fast_forward(16_000)
            box.get_by_text(words).wait_for()
            over = page.evaluate("Date.now() / 1000") + 30
            file.write_text(json.dumps({**document, "id": "2", "until": over}))
            page.reload()
            box.get_by_text(words).wait_for()
            page.clock.fast_forward(31_000)
            box.wait_for(state="hidden")
            file.write_text(json.dumps({**document, "id": "3"}))
            page.reload()
            box.get_by_role("button").click()
            page.reload()
            page.wait_for_load_state("networkidle")
            assert box.is_hidden()

    site.run(act)


def test_headings_of_errors_are_translated(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever JupyterHub, or what it is made of, calls the status; our own errors and what they say as well."""

    def fail(handler: handlers.NewServerHandler) -> None:
        status = int(handler.get_query_argument("status", "0"))
        if status == 409:
            raise ServerStartError(handlers.BAD_NAME, status_code=status)
        raise HTTPError(status) if status else HTTPError(400, handlers.BAD_NAME)

    monkeypatch.setattr(handlers.NewServerHandler, "get", fail)

    def act(url: str) -> None:
        hub = session(url, "ann")
        for status in (400, 403, 404, 405, 409, 413, 429, 500, 503):
            english, russian = (
                re.findall(r"<h1[^>]*>(.*?)</h1>", hub.request(f"/hub/new-server?status={status}", headers=language)[2])
                for language in ({}, {"Accept-Language": "ru"})
            )
            assert english[0] != responses[status]
            assert re.fullmatch("[А-я ]+", russian[0]), (status, russian)
        page = hub.request("/hub/new-server", headers={"Accept-Language": "ru"})[2]
        assert "Это невозможно" in page
        assert "Назовите сервер буквами" in page

    site.run(act)


def test_without_an_announcement_there_is_an_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "ANNOUNCEMENT", Path("/nonexistent"))
    site.run(lambda url: assert_nothing(Hub(url, "ann")))


def assert_nothing(hub: Hub) -> None:
    """As somebody who has not logged in."""
    assert hub.request("/hub/announcement")[::2] == (200, "{}")
