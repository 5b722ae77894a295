"""A Jupyter server with the extension, and displays of real X servers."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from tornado.httpclient import HTTPRequest
from tornado.web import create_signed_value
from tornado.websocket import websocket_connect

import jupyter_displays as openapi
from jupyter_displays.engines import ENGINES


def pytest_configure(config):
    config.addinivalue_line("markers", "leaves_processes: the test itself is about what goes on")


pytest_plugins = ["pytest_jupyter.jupyter_server"]


@functools.cache
def refusal(name):
    """Return why no display can be made with an engine on this machine, or nothing."""
    engine = ENGINES[name]()
    with tempfile.TemporaryDirectory() as cache:
        engine.find_version(Path(cache))
    return engine.refusal()


@pytest.fixture
def engine():
    return "tigervnc"


@pytest.fixture
def usable_engine(engine):
    """The engine, for a test that is skipped on a machine that has it not."""
    if why := refusal(engine):
        pytest.skip(why)
    return engine


@pytest.fixture
def applications():
    """Applications that show what they got."""
    sleep = {"title": "Sleep", "command": ["sleep", "600"]}
    return {
        "sleep": sleep,
        "root": {"title": "Root", "command": ["xsetroot", "-solid", "#ff0000"]},
        "fails": {"title": "Fails", "command": ["sh", "-c", "echo no licence >&2; exit 3"]},
        "stubborn": {"title": "Stubborn", "command": ["sh", "-c", "trap '' TERM; (setsid sleep 600 &) ; sleep 600"]},
    }


@pytest.fixture
def displays_directory(tmp_path):
    # Unix sockets have short names.
    path = Path("/tmp") / f"jd-{os.getpid()}-{time.monotonic_ns() % 10**9}"
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def manager_settings():
    return {}


@pytest.fixture
def jp_server_config(usable_engine, applications, displays_directory, manager_settings, tmp_path):
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_displays": True}},
        "DisplayManager": {
            "engine": usable_engine,
            "applications": applications,
            "runtime_directory": str(displays_directory),
            "upload_directory": str(tmp_path / "Desktop"),
            **manager_settings,
        },
    }


@pytest.fixture
def manager(jp_serverapp, jp_asyncio_loop, nothing_left):
    found = jp_serverapp.web_app.settings["display_manager"]
    yield found
    jp_asyncio_loop.run_until_complete(found.stop())


@pytest.fixture
def login_cookie(jp_serverapp):
    """The cookie of a browser in which the user is logged in."""
    # What the identity provider keeps of a user.
    user = json.dumps(
        {"username": "u", "name": "U", "display_name": "U", "initials": None, "color": None, "avatar_url": None}
    )
    name = f"username-127-0-0-1-{jp_serverapp.port}"
    return f'{name}="{create_signed_value(jp_serverapp.cookie_secret, name, user).decode()}"'


@pytest.fixture
def visit(jp_fetch):
    """Make a request without a login, with the token against forged requests that every visitor gets."""

    async def visit(path, method="GET"):
        page = await jp_fetch("login", headers={"Authorization": ""})
        (cookie,) = (cookie.partition(";")[0] for cookie in page.headers.get_list("Set-Cookie") if "_xsrf" in cookie)
        headers = {"Authorization": "", "Cookie": cookie, "X-XSRFToken": cookie.partition("=")[2]}
        options = {"body": "{}"} if method in {"POST", "PATCH", "PUT"} else {}
        return await jp_fetch(
            *path.split("/"), method=method, headers=headers, raise_error=False, follow_redirects=False, **options
        )

    return visit


DESCRIPTION = yaml.safe_load(Path(openapi.__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))


def described(method, path, response):
    """Check an answer against the description of the API."""
    names = ["id", "name" if "files" in path else "share"]
    parts = [f"{{{names.pop(0)}}}" if i in {0, 2} else part for i, part in enumerate(path)]
    operation = DESCRIPTION["paths"]["/".join(["/api/displays", *parts])][method.lower()]
    if response.code == 405:
        return
    answer = operation["responses"].get(str(response.code), operation["responses"]["default"])
    if "$ref" in answer:
        answer = DESCRIPTION["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    if response.code == 404 and kind == "text/html":
        return  # There is no such path.
    if not response.body:
        assert "content" not in answer
    elif kind == "application/json":
        schema = {**answer["content"][kind]["schema"], "components": DESCRIPTION["components"]}
        jsonschema.validate(json.loads(response.body), schema)
    else:
        assert kind in answer["content"], kind


class API:
    """The REST API as a page uses it."""

    def __init__(self, fetch):
        self._fetch = fetch

    async def __call__(self, method, *path, body=None, raw=None, **options):
        if body is not None:
            raw = json.dumps(body)
        if raw is None and method in {"POST", "PATCH"}:
            raw = "{}"
        response = await self._fetch(
            "api", "displays", *path, method=method, body=raw, raise_error=False, request_timeout=30, **options
        )
        kind = response.headers.get("Content-Type", "")
        described(method, path, response)
        return response.code, json.loads(response.body) if response.body and "json" in kind else response.body

    async def create(self, **fields):
        status, display = await self("POST", body={"application": "sleep", **fields})
        assert status == 201, display
        return display

    async def state(self, display_id, *states, seconds=10):
        """Wait until a display has one of these states."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status, display = await self("GET", display_id)
            if status != 200 or display["state"] in states:
                return display
            await asyncio.sleep(0.01)
        raise AssertionError(display)

    async def running(self, **fields):
        display = await self.create(**fields)
        display = await self.state(display["id"], "running", "failed")
        assert display["state"] == "running", display
        return display


@pytest.fixture
def api(jp_fetch, manager):
    return API(jp_fetch)


@pytest.fixture
def connect(jp_http_port, jp_base_url, jp_auth_header):
    """Open a WebSocket as a page of this server does."""

    async def connect(*path, headers=None):
        url = f"ws://127.0.0.1:{jp_http_port}{jp_base_url}{'/'.join(path)}"
        return await websocket_connect(HTTPRequest(url, headers=jp_auth_header if headers is None else headers))

    return connect


def leftovers(directory):
    """Return the processes of the displays in a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"JUPYTER_DISPLAY_DIR={directory}".encode() in (path / "environ").read_bytes():
                found.append((path.name, (path / "cmdline").read_bytes()))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_left(request, displays_directory):
    """No test leaves a process."""
    yield
    for pid, _ in leftovers(displays_directory):
        if request.node.get_closest_marker("leaves_processes"):
            os.kill(int(pid), signal.SIGKILL)
    # The server of the test stops its displays when it stops; they are given a moment to end.
    deadline = time.monotonic() + 5
    while (left := leftovers(displays_directory)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []
