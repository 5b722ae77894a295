"""`jupyterhub-desktop` behind a hub: who gets in, what it offers and reports, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tornado import httpclient, httpserver, netutil, web
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from jupyter_displays.standalone import StandaloneDisplayApp

from .test_api import REFUSING, methods

pytest.importorskip("jupyterhub", reason="JupyterHub is not installed")

USER = {"kind": "user", "name": "ann@b", "groups": [], "admin": False}


class Hub:
    """What a server asks of JupyterHub."""

    def __init__(self):
        self.activity = []
        self.tokens = {
            "good": {**USER, "scopes": ["access:servers!server=ann@b/"]},
            "other": {**USER, "name": "eve", "scopes": ["access:servers!user=eve"]},
            "server": {**USER, "scopes": ["access:servers!server=ann@b/"]},
        }
        hub = self

        class User(web.RequestHandler):
            def get(self):
                model = hub.tokens.get(self.request.headers.get("Authorization", "").partition(" ")[2])
                if model is None:
                    raise web.HTTPError(403)
                self.write(model)

        class Token(web.RequestHandler):
            def post(self):
                assert self.get_argument("code") == "the-code"
                self.write({"access_token": "good", "token_type": "Bearer"})

        class Activity(web.RequestHandler):
            def post(self, name):
                hub.activity.append((name, json.loads(self.request.body)))

        sockets = netutil.bind_sockets(0, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self.server = httpserver.HTTPServer(
            web.Application(
                [
                    ("/hub/api/user", User),
                    ("/hub/api/oauth2/token", Token),
                    ("/hub/api/users/([^/]+)/activity", Activity),
                ]
            )
        )
        self.server.add_sockets(sockets)


class Desktop:
    """A running `jupyterhub-desktop`."""

    def __init__(self, hub, directory, *, socket=None):
        free = netutil.bind_sockets(0, "127.0.0.1")
        self.port = free[0].getsockname()[1]
        free[0].close()
        self.prefix = "/user/ann%40b/"
        self.directory = directory
        self.socket = socket
        api = f"http://127.0.0.1:{hub.port}/hub/api"
        self.hub = hub
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyter_displays.standalone"),
                "--engine=tigervnc",
                "--application=sleep",
                f"--DisplayManager.runtime_directory={directory}",
                f"--DisplayManager.upload_directory={directory}/Desktop",
            ],
            env={
                **os.environ,
                "JUPYTER_CONFIG_DIR": str(directory / "config"),
                "JUPYTERHUB_API_TOKEN": "server",
                "JUPYTERHUB_API_URL": api,
                "JUPYTERHUB_ACTIVITY_URL": f"{api}/users/ann@b/activity",
                "JUPYTERHUB_ACTIVITY_INTERVAL": "0.2",
                "JUPYTERHUB_BASE_URL": "/",
                "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ann",
                "JUPYTERHUB_HOST": "",
                "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{self.prefix}oauth_callback",
                "JUPYTERHUB_OAUTH_SCOPES": '["access:servers!server=ann@b/"]',
                "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=ann@b/"]',
                "JUPYTERHUB_SERVICE_PREFIX": self.prefix,
                "JUPYTERHUB_SERVICE_URL": (
                    f"http+unix://{str(socket).replace('/', '%2F')}{self.prefix}"
                    if socket
                    else f"http://127.0.0.1:{self.port}{self.prefix}"
                ),
                "JUPYTERHUB_USER": "ann@b",
            },
        )

    async def ready(self):
        deadline = time.monotonic() + 20
        while True:
            assert self.process.poll() is None, "it has ended"
            try:
                return await self.get("", follow_redirects=False)
            except OSError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)

    def url(self, path, scheme="http"):
        return f"{scheme}://127.0.0.1:{self.port}{self.prefix}{path}"

    async def get(self, path, method="GET", token=None, body=None, **options):
        headers = options.pop("headers", {})
        if token:
            headers["Authorization"] = f"token {token}"
        if method == "POST" and body is None:
            body = "{}"
        return await AsyncHTTPClient().fetch(
            self.url(path), method=method, headers=headers, body=body, raise_error=False, **options
        )

    async def running(self):
        for _ in range(200):
            displays = json.loads((await self.get("api/displays", token="good")).body)["displays"]
            if displays and displays[0]["state"] == "running":
                return displays[0]
            await asyncio.sleep(0.05)
        raise AssertionError(displays)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@pytest.fixture
def hub(jp_asyncio_loop):
    async def start():
        return Hub()

    hub = jp_asyncio_loop.run_until_complete(start())
    yield hub
    hub.server.stop()


@pytest.fixture
def extensions(request):
    """Settings of a test in addition to the application."""
    return request.getfixturevalue("three_extensions") if "three_extensions" in request.fixturenames else {}


@pytest.fixture
def desktop(hub, displays_directory, monkeypatch, tmp_path, extensions):
    applications = {"sleep": {"title": "Sleep", "command": ["sleep", "600"]}}
    (tmp_path / "jupyter_displays_config.json").write_text(
        json.dumps({"DisplayManager": {"applications": applications}, **extensions})
    )
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path))
    started = Desktop(hub, displays_directory)
    yield started
    if started.process.poll() is None:
        started.stop()


async def refused(connecting):
    with pytest.raises(httpclient.HTTPClientError) as error:
        await connecting
    return error.value.code


async def test_who_gets_in(desktop):
    first = await desktop.ready()
    assert first.code == 302  # To the hub's login.
    assert "/hub/api/oauth2/authorize" in first.headers["Location"]
    assert first.headers["X-JupyterHub-Version"]
    await desktop.running()
    assert (await desktop.get("api/displays")).code == 403
    assert (await desktop.get("api/displays", token="foreign")).code == 403
    assert (await desktop.get("api/displays", token="other")).code == 403
    assert (await desktop.get("api/displays", method="POST", token="other")).code == 403
    for name in ("sound", "stream"):
        stream = desktop.url(f"api/displays/1/{name}", "ws")
        assert await refused(websocket_connect(stream)) == 403
        assert await refused(websocket_connect(HTTPRequest(stream, headers={"Authorization": "token other"}))) == 403
    ws = await websocket_connect(HTTPRequest(stream, headers={"Authorization": "token good"}))
    assert (await ws.read_message())[:3] == b"RFB"
    ws.close()


async def test_without_the_right_login_every_handler_refuses(desktop):
    await desktop.ready()
    display = await desktop.running()
    for token in (None, "other"):
        for pattern, handler in REFUSING:
            path = re.sub(r"\([^)]*\)", "1", pattern).lstrip("/")
            for method in methods(handler):
                body = "{}" if method in {"POST", "PATCH"} else None
                answer = await desktop.get(path, method, token, body, follow_redirects=False)
                # Who has no login gets one, where there is a page.
                assert answer.code == (302 if handler.__name__ == "PageHandler" and not token else 403), (path, method)
    assert await desktop.running() == display
    assert not (desktop.directory / "Desktop").exists()


async def login(desktop):
    """Log in as a browser does and return its cookies."""
    away = await desktop.get("", follow_redirects=False)
    state = parse_qs(urlsplit(away.headers["Location"]).query)["state"][0]
    cookies = [cookie.partition(";")[0] for cookie in away.headers.get_list("Set-Cookie")]
    back = await desktop.get(
        f"oauth_callback?code=the-code&state={state}", headers={"Cookie": "; ".join(cookies)}, follow_redirects=False
    )
    assert (back.code, back.headers["Location"]) == (302, desktop.prefix)
    cookies = [c.partition(";")[0] for c in back.headers.get_list("Set-Cookie") if not c.split("=")[1].startswith('""')]
    return "; ".join(cookies)


async def test_a_browser_logs_in_and_gets_the_page(desktop):
    await desktop.ready()
    cookie = await login(desktop)
    page = await desktop.get("", headers={"Cookie": cookie, "Sec-Fetch-Mode": "navigate"})
    assert page.code == 200
    config = json.loads(re.search(r'type="application/json">(.*?)</script>', page.body.decode())[1])
    assert (config["id"], config["display"]["name"], config["baseUrl"]) == ("1", "display/1", desktop.prefix)
    assert config["home"].endswith("/hub/home")
    stream = desktop.url("api/displays/1/stream", "ws")
    for origin, allowed in ((f"http://127.0.0.1:{desktop.port}", True), ("https://evil.example", False)):
        headers = {"Cookie": cookie, "Origin": origin, "Sec-Fetch-Mode": "websocket"}
        connecting = websocket_connect(HTTPRequest(stream, headers=headers))
        if allowed:
            ws = await connecting
            assert (await ws.read_message())[:3] == b"RFB"
            ws.close()
        else:
            assert await refused(connecting) == 403
    # A form of another site has the cookie, and not the token against forged requests.
    for headers in ({"Cookie": cookie}, {"Cookie": cookie, "Origin": "https://evil.example"}):
        assert (await desktop.get("api/displays", method="POST", headers=headers)).code == 403
    cookies = [cookie, *(c.partition(";")[0] for c in page.headers.get_list("Set-Cookie"))]
    token = re.findall(r"_xsrf=([^;]+)", "; ".join(cookies))[-1]
    headers = {"Cookie": "; ".join(cookies), "X-XSRFToken": token, "Sec-Fetch-Mode": "cors"}
    assert (
        await desktop.get("api/displays", method="POST", body='{"application": "sleep"}', headers=headers)
    ).code == 201


async def test_it_offers_displays_and_nothing_else(desktop):
    await desktop.ready()
    for path in (
        "api/contents",
        "api/kernels",
        "api/terminals",
        "api/sessions",
        "api/config/x",
        "files/x",
    ):
        assert (await desktop.get(path, token="good")).code == 404
    for path in ("lab", "tree", "lab/tree/x.ipynb"):
        answer = await desktop.get(path, follow_redirects=False)
        assert (answer.code, answer.headers["Location"]) == (302, desktop.prefix)


async def test_another_one_is_offered_when_it_is_over(desktop):
    await desktop.ready()
    await desktop.running()
    for line in Path("/proc").glob("[0-9]*"):
        try:
            if (
                f"JUPYTER_DISPLAY_DIR={desktop.directory}".encode() in (line / "environ").read_bytes()
                and b"sleep" in (line / "cmdline").read_bytes()
            ):
                os.kill(int(line.name), signal.SIGTERM)
        except OSError:
            continue
    await asyncio.sleep(0.7)
    page = (await desktop.get("", token="good")).body.decode()
    config = json.loads(re.search(r'type="application/json">(.*?)</script>', page)[1])
    assert config["display"]["state"] in {"ended", "failed"}
    created = await desktop.get("api/displays", method="POST", token="good", body='{"application": "sleep"}')
    assert created.code == 201
    page = (await desktop.get("", token="good")).body.decode()
    assert json.loads(re.search(r'type="application/json">(.*?)</script>', page)[1])["id"] == "2"


async def test_it_reports_keys_and_pointer_and_not_an_open_page(desktop, hub):
    await desktop.ready()
    await desktop.running()
    ws = await websocket_connect(
        HTTPRequest(desktop.url("api/displays/1/stream", "ws"), headers={"Authorization": "token good"})
    )
    await ws.read_message()
    for message in (b"RFB 003.008\n", b"\1", b"\1"):
        await ws.write_message(message, binary=True)
        await ws.read_message()
    await asyncio.sleep(1)
    before = len(hub.activity)
    assert before == 1
    name, body = hub.activity[0]
    assert name == "ann@b"
    assert list(body["servers"]) == [""]
    await ws.write_message(b"\5\0\0\x0a\0\x0a", binary=True)
    for _ in range(50):
        await asyncio.sleep(0.05)
        if len(hub.activity) > before:
            break
    assert hub.activity[-1][1]["last_activity"] > body["last_activity"]
    ws.close()


@pytest.fixture
def three_extensions(tmp_path, monkeypatch):
    """One that works, one that does not, and one that is not there."""
    (tmp_path / "works.py").write_text(
        "from tornado import web\n"
        "class Hello(web.RequestHandler):\n"
        "    def get(self):\n"
        "        self.write('hello')\n"
        "def extend(app, application, prefix):\n"
        "    application.add_handlers('.*', [(prefix + '/api/hello', Hello)])\n"
        "    async def end():\n"
        f"        open({str(tmp_path / 'ended')!r}, 'w').close()\n"
        "    return end\n"
    )
    (tmp_path / "broken.py").write_text("def extend(app, application, prefix):\n    raise RuntimeError\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    return {"StandaloneDisplayApp": {"extensions": ["missing", "broken", "works"]}}


async def test_extensions_add_to_it_and_a_broken_one_stops_nothing(three_extensions, desktop, tmp_path):
    await desktop.ready()
    assert (await desktop.get("api/hello")).body == b"hello"
    await desktop.running()
    assert desktop.stop() == 0
    assert (tmp_path / "ended").exists()


async def test_a_stop_leaves_nothing(desktop, displays_directory):
    await desktop.ready()
    await desktop.running()
    begin = time.monotonic()
    assert desktop.stop() == 0
    assert time.monotonic() - begin < 5
    assert [path for path in displays_directory.iterdir() if path.name.isdigit()] == []


async def test_a_unix_socket(hub, displays_directory, tmp_path):
    displays_directory.mkdir(mode=0o700)
    started = Desktop(hub, displays_directory, socket=displays_directory / "hub.sock")
    try:
        for _ in range(400):
            if started.socket.exists():
                break
            await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_unix_connection(started.socket)
        writer.write(f"GET {started.prefix} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        assert b" 302 " in await reader.readline()
        writer.close()
    finally:
        assert started.stop() == 0


async def test_the_next_one_finds_the_desktop_of_one_that_was_killed(desktop, hub, displays_directory):
    await desktop.ready()
    first = await desktop.running()
    desktop.process.kill()
    desktop.process.wait()
    again = Desktop(hub, displays_directory)
    try:
        await again.ready()
        second = await again.running()
        assert second["created"] == first["created"]
        ws = await websocket_connect(
            HTTPRequest(again.url("api/displays/1/stream", "ws"), headers={"Authorization": "token good"})
        )
        assert (await ws.read_message())[:3] == b"RFB"
        ws.close()
    finally:
        assert again.stop() == 0


def test_its_start_notes_nothing_in_the_home(tmp_path, monkeypatch):
    """Where Jupyter notes that it has looked for settings of IPython 3, a full home would end the start."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ipython").mkdir()
    StandaloneDisplayApp().migrate_config()
    assert not (tmp_path / ".jupyter").exists()
