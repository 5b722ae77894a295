"""A Jupyter server in a slice with a memory limit of its own, where this machine lets a test make one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import campushub_session
from campushub_session.ends import NO_RULES

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = Path(campushub_session.__file__).parent
SLICE = f"jupyterhub-{os.getuid()}.slice"
MEMORY_LIMIT = 500 << 20
HUB_SECRET = "hub-secret"


def make_slice() -> Path:
    """Make a control group with a memory limit, of version 2 or 1, in one of this machine's."""
    unified = (Path("/sys/fs/cgroup") / "cgroup.controllers").exists()
    top = Path("/sys/fs/cgroup") if unified else Path("/sys/fs/cgroup/memory")
    directory = top / f"campushub-test-{os.getpid()}-{secrets.token_hex(4)}" / SLICE
    try:
        directory.parent.mkdir()
        if unified:
            (directory.parent / "cgroup.subtree_control").write_text("+memory +cpu")
        directory.mkdir()
        (directory / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(MEMORY_LIMIT))
        if unified:
            (directory / "memory.swap.max").write_text("0")
    except OSError as error:
        remove_slice(directory)
        pytest.skip(f"no control group can be made here: {error}")
    return directory


def remove_slice(directory: Path) -> None:
    """Remove it; what has been killed may need a moment to go."""
    for path in (directory, directory.parent):
        for _ in range(100):
            try:
                path.rmdir()
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.05)
            else:
                break


@dataclass
class Server:
    """A running Jupyter server."""

    process: subprocess.Popen[bytes]
    url: str
    slice: Path
    home: Path
    log: Path

    def api(self, method: str, path: str, body: Any = None, token: str = "secret") -> Any:
        """Make a request as its user."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def hear_from_hub(self, secret: str = HUB_SECRET, **rules: Any) -> Any:
        """Tell it what holds for it, as the hub does; nothing where no rules are given."""
        rules = {**NO_RULES, "warnings": [1800, 600, 120], **rules}
        headers = {"X-Campushub-Session-Secret": secret, "Content-Type": "application/json"}
        data = json.dumps(rules).encode()
        request = urllib.request.Request(f"{self.url}api/session/hub", data, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def out_of_memory_kills(self) -> int:
        """Return how many processes were killed in the slice."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(FileNotFoundError):
                return int(re.search(r"^oom_kill (\d+)", (self.slice / name).read_text(), re.MULTILINE)[1])
        raise AssertionError


@contextlib.contextmanager
def run_in_slice(
    command: list[str],
    environment: dict[str, str],
    url: str,
    home: Path,
    log: Path,
    *,
    first: str = "api",
    token: str = "secret",
) -> Iterator[Server]:
    """Run a server in a slice that has a limit."""
    control_group = make_slice()
    with log.open("wb") as output:
        # A shell enters the control group before it becomes the server.
        process = subprocess.Popen(
            ["/bin/sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(control_group), *command],
            env=environment,
            cwd=home,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    started = Server(process, url, control_group, home, log)
    for _ in range(600):
        with contextlib.suppress(OSError):
            started.api("GET", first, token=token)
            break
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    try:
        yield started
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for pid in (control_group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        process.wait()
        remove_slice(control_group)


@contextlib.contextmanager
def run_server(directory: Path, with_package: bool = True, home: Path | None = None) -> Iterator[Server]:
    """Run Jupyter as users get it in a slice that has a limit, with the home in the directory or elsewhere."""
    home = home or directory
    extensions = directory / "share" / "labextensions"
    # A server may have run here before.
    if not extensions.exists():
        extensions.mkdir(parents=True)
        (extensions / "campushub-session").symlink_to(PACKAGE / "labextension")
    # No question whether there may be news.
    (directory / "config" / "labconfig").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "roles/jupyter/files/default_setting_overrides.json", directory / "config" / "labconfig")
    # Files as users have them.
    (directory / "config" / "jupyter_server_config.py").write_text(
        "from campushub_server import full_home\n"
        # What takes seconds elsewhere need not in tests.
        "from campushub_session import monitor\n"
        "monitor.USAGE_INTERVAL, monitor.ANNOUNCEMENT_INTERVAL = 1_000, 500\n"
        "full_home.do_without(c)\n"
        "full_home.keep_settings()\n"
        "c.ServerApp.contents_manager_class = 'campushub_server.contents.CampusContentsManager'\n"
    )
    port = 18_800 + os.getpid() % 1000
    # The last one is left out of users' environments; its npm would be one of the user's programs for a moment.
    active = {"campushub_session": with_package, "jupyterlab": True, "notebook": True, "jupyter_lsp": False}
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": str(port),
        "ServerApp.port_retries": "0",
        "ServerApp.base_url": "/user/u/",
        "ServerApp.root_dir": str(home),
        "ServerApp.jpserver_extensions": str(active),
        "ServerApp.open_browser": "False",
        "IdentityProvider.token": "secret",
        "SessionApp.announcement_file": str(home / "announcement.json"),
    }
    environment = {
        "HOME": str(home),
        # A test can put a program there.
        "PATH": f"{home}/bin:{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": f"{PACKAGE.parent}:{ROOT / 'roles/jupyter/files'}",
        "JUPYTER_PATH": str(directory / "share"),
        "JUPYTER_CONFIG_DIR": str(directory / "config"),
        "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),
        "LANG": "C.UTF-8",
        "CAMPUSHUB_SESSION_SECRET": HUB_SECRET,
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{port + 1000}/hub/api",
        "JUPYTERHUB_API_TOKEN": "own",
        "JUPYTERHUB_USER": "u",
        "CAMPUSHUB_SERVER_STATE": f"http://127.0.0.1:{port + 1000}/hub/server-state/u//0",
    }
    command = [sys.executable, "-m", "jupyter_server", "--allow-root", *(f"--{k}={v}" for k, v in options.items())]
    url = f"http://127.0.0.1:{port}/user/u/"
    with run_in_slice(command, environment, url, home, directory / "server.log") as started:
        yield started


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A home with a file system of its own, of 4 MB."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=100", "x", path]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def start_server() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    return run_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_server(tmp_path_factory.mktemp("home")) as running:
        yield running
