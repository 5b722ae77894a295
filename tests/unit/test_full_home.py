"""A real Jupyter server, with the role's settings, in a home with no room: a small file system of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/jupyter"
# Part of the program that starts a user's server, without the hub that it needs.
START = "import runpy, sys; runpy.run_path(sys.argv.pop(1)); from jupyter_server.serverapp import main; main()"
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
OLD = "old" * 1000
LAYOUT = {"data": {}, "metadata": {"id": "default"}}
LAYOUT_PATH = "lab/api/workspaces/default"
SETTING = "lab/api/settings/@jupyterlab/translation-extension:plugin"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")


class Home:
    """A home on a file system of 4 MB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "old.txt").write_text(OLD)
        (path / "old.ipynb").write_text(json.dumps(NOTEBOOK))

    def fill(self, what: str) -> None:
        """Leave no byte, or no inode."""
        (self.path / "fill").mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            if what == "bytes":
                with (self.path / "fill" / "block").open("wb", 0) as file:
                    while True:
                        file.write(bytes(4096))
            for number in range(10_000):
                (self.path / "fill" / str(number)).touch()

    def files(self) -> dict[str, int]:
        """Return the sizes of files, without what fills it."""
        found = [path for path in self.path.rglob("*") if path.is_file() and path.parent.name != "fill"]
        return {str(path.relative_to(self.path)): path.stat().st_size for path in found}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    path = tmp_path / "home"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=400", "home", path], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield Home(path)
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def home_with_quota(tmp_path: Path) -> Iterator[Home]:
    """A home on a file system that has room, with a quota of 8 MB: btrfs has quotas without those of the kernel."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("not installed: btrfs-progs")
    image, top = tmp_path / "image", tmp_path / "top"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    top.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, top], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        for command in (["quota", "enable", str(top)], ["subvolume", "create", str(top / "home")]):
            subprocess.run(["btrfs", *command], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["btrfs", "qgroup", "limit", "8M", top / "home"], check=True)
        yield Home(top / "home")
    finally:
        subprocess.run(["umount", "--lazy", top], check=True)


class Server:
    """A running server, and what its user asks of it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a request; return its status and answer."""
        headers = {"Authorization": "token secret", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        with contextlib.suppress(ValueError):
            return status, json.loads(content)
        return status, content

    def save(self, path: str, text: str) -> tuple[int, Any]:
        """Save a text."""
        return self.api("PUT", f"api/contents/{path}", {"type": "file", "format": "text", "content": text})

    def run(self, code: str) -> str:
        """Return what a new kernel prints."""
        status, kernel = self.api("POST", "api/kernels", {"name": "python3"})
        assert status == 201, kernel
        return asyncio.run(self._run(kernel["id"], code))

    async def _run(self, kernel: str, code: str) -> str:
        url = f"ws://127.0.0.1:{self.port}/api/kernels/{kernel}/channels"
        connection = await websocket_connect(HTTPRequest(url, headers={"Authorization": "token secret"}))
        header = {"msg_id": "1", "session": "1", "msg_type": "execute_request", "version": "5.3", "username": ""}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "user_expressions": {}}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await connection.write_message(json.dumps(message))
        printed = ""
        while True:
            text = await asyncio.wait_for(asyncio.ensure_future(connection.read_message()), 60)
            received: dict[str, Any] = json.loads(text or "{}")
            if received.get("parent_header", {}).get("msg_id") != "1":
                continue
            printed += str(received["content"].get("text", ""))
            if received["content"].get("execution_state") == "idle":
                return printed


@contextlib.contextmanager
def run_server(home: Home, directory: Path) -> Iterator[Server]:
    """Run a server with the role's settings, as the user has it."""
    etc = directory / "etc"
    (etc / "labconfig").mkdir(parents=True, exist_ok=True)
    settings = (ROLE / "templates/jupyter_config.py.j2").read_text()
    settings = settings.replace("{{ jupyter_kernel_idle_timeout }}", "0")
    (etc / "jupyter_config.py").write_text(settings.replace("/usr/local/lib/campushub/jupyter", str(ROLE / "files")))
    shutil.copy(ROLE / "files/default_setting_overrides.json", etc / "labconfig")
    # With the role's settings of kernels, which IPython itself reads in /etc alone.
    kernel = directory / "share/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    extra = f"--IPKernelApp.extra_config_file={ROLE / 'files/ipython_kernel_config.py'}"
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", extra]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "HOME": str(home.path),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "JUPYTER_CONFIG_PATH": str(etc),
        "JUPYTER_PATH": str(directory / "share"),
        # As the spawner sets it: not in the home.
        "JUPYTER_RUNTIME_DIR": f"/tmp/campushub-test-{port}",
    }
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": str(port),
        "ServerApp.port_retries": "0",
        "ServerApp.open_browser": "False",
        # The role leaves it out.
        "ServerApp.jpserver_extensions": str({"jupyter_lsp": False, "jupyterlab": True, "notebook": True}),
        "IdentityProvider.token": "secret",
    }
    command = [sys.executable, "-c", START, str(ROLE / "files/singleuser.py"), "--allow-root"]
    log = directory / "server.log"
    server = Server(port)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            env=environment,
            cwd=home.path,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                if server.api("GET", "api")[0] == 200:
                    break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(environment["JUPYTER_RUNTIME_DIR"], ignore_errors=True)


@pytest.fixture
def start(home: Home, tmp_path: Path) -> Callable[[], contextlib.AbstractContextManager[Server]]:
    return lambda: run_server(home, tmp_path)


def refuses_and_keeps(server: Server, home: Home) -> None:
    """Fail unless what does not fit is refused with the reason, and all is as it was."""
    before = home.files()
    for path, text in (("old.txt", "new" * 5000), ("new.txt", "new"), ("old.txt", "new")):
        status, answer = server.save(path, text)
        assert (status, "the disk, or your quota of it, is full" in answer["message"]) == (507, True)
    for path in ("old.ipynb", "new.ipynb"):
        status, _ = server.api("PUT", f"api/contents/{path}", {"type": "notebook", "content": NOTEBOOK})
        assert status == 507
    assert server.api("POST", "api/contents", {"type": "notebook"})[0] == 507
    # Without it JupyterLab would not open the notebook.
    assert server.api("GET", "api/contents/old.ipynb")[0] == 200
    assert server.api("POST", "api/contents/old.ipynb/checkpoints")[0] == 201
    assert server.api("GET", "api/contents/old.ipynb/checkpoints")[1] == []
    assert server.api("PUT", LAYOUT_PATH, LAYOUT)[0] == 500
    assert server.api("PUT", SETTING, {"raw": '{"locale": "ru_RU"}'})[0] == 500
    assert home.files() == before
    assert (home.path / "old.txt").read_text() == OLD


def makes_room(server: Server, home: Home, notebook: str) -> None:
    """Fail unless a deletion works, and afterwards a save does."""
    assert server.api("DELETE", f"api/contents/{notebook}")[0] == 204
    (home.path / "fill" / "1").unlink(missing_ok=True)
    (home.path / "fill" / "block").unlink(missing_ok=True)
    # btrfs counts what was deleted from then on.
    subprocess.run(["sync", "--file-system", home.path], check=True)
    assert server.save("old.txt", "new")[0] == 200
    assert (home.path / "old.txt").read_text() == "new"


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_first_start_in_a_full_home_works(
    home: Home, start: Callable[[], contextlib.AbstractContextManager[Server]], what: str
) -> None:
    home.fill(what)
    with start() as server:
        assert server.api("GET", "lab")[0] == server.api("GET", "tree")[0] == 200
        assert server.api("GET", SETTING)[0] == server.api("GET", LAYOUT_PATH)[0] == 200
        assert server.run("print(6 * 7)") == "42\n"
        assert server.api("POST", "api/terminals")[0] == 200
        assert 0 not in home.files().values()
        refuses_and_keeps(server, home)
        assert server.api("PATCH", "api/contents/old.ipynb", {"path": "renamed.ipynb"})[0] == 200
        makes_room(server, home, "renamed.ipynb")


def test_a_home_at_its_quota_locks_nobody_out(home_with_quota: Home, tmp_path: Path) -> None:
    """Where the file system itself has room, and refuses with another error."""
    home = home_with_quota
    home.fill("bytes")
    with pytest.raises(OSError, match="quota"):
        (home.path / "more").write_bytes(bytes(1 << 20))
    (home.path / "more").unlink(missing_ok=True)
    with run_server(home, tmp_path) as server:
        assert server.api("GET", "lab")[0] == server.api("GET", "tree")[0] == 200
        assert server.run("print(6 * 7)") == "42\n"
        assert server.api("POST", "api/terminals")[0] == 200
        refuses_and_keeps(server, home)
        # To rename takes room in this file system.
        makes_room(server, home, "old.ipynb")


def test_a_home_in_use_fills_up_and_locks_nobody_out(
    home: Home, start: Callable[[], contextlib.AbstractContextManager[Server]]
) -> None:
    with start() as server:
        assert server.run("print(6 * 7)") == "42\n"
        assert server.api("PUT", LAYOUT_PATH, LAYOUT)[0] == 204
        assert server.api("PUT", SETTING, {"raw": '{"locale": "en"}'})[0] == 204
        home.fill("bytes")
        assert server.run("print(6 * 7)") == "42\n"
        assert server.api("GET", LAYOUT_PATH)[1]["metadata"]["id"] == "default"
    home.fill("bytes")
    with start() as server:
        assert server.run("print(6 * 7)") == "42\n"
        assert 0 not in home.files().values()
        assert server.api("PUT", LAYOUT_PATH, LAYOUT)[0] == 500
        assert server.api("GET", LAYOUT_PATH)[1]["metadata"]["id"] == "default"
        assert json.loads(server.api("GET", SETTING)[1]["raw"]) == {"locale": "en"}


def test_an_empty_key_of_an_earlier_start_is_not_used(
    home: Home, start: Callable[[], contextlib.AbstractContextManager[Server]]
) -> None:
    key = home.path / ".local/share/jupyter/notebook_secret"
    key.parent.mkdir(parents=True)
    key.touch()
    with start() as server:
        assert server.api("GET", "api/contents/old.ipynb")[0] == 200
    assert key.stat().st_size > 100
