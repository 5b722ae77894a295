"""What counts as activity of a server, in a real Jupyter server, by what the hub is told."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import sys
import time
import urllib.error
from types import SimpleNamespace

import pytest
from jupyter_client import BlockingKernelClient

from campushub_session import activity, programs

from .test_browser import browser, open_notebook, page, wait, write_notebook

__all__ = ["browser", "page"]


def test_a_fork_belongs_to_the_server_of_its_client(tmp_path, monkeypatch):
    """As two servers of one user have them: what a fork was started with says nothing of either."""
    monkeypatch.setattr(programs, "_PROC", tmp_path)
    for pid, server in ((5, "/user/u/"), (6, "/user/u/b/")):
        (tmp_path / str(pid) / "fdinfo").mkdir(parents=True)
        (tmp_path / str(pid) / "environ").write_bytes(f"A=1\0JUPYTERHUB_SERVICE_PREFIX={server}\0".encode())
    (tmp_path / "6" / "fdinfo" / "3").write_text("pos:\t0\nPid:\t7\n")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "environ").write_bytes(b"LANG=C.UTF-8\0")
    assert [programs.server_of(pid, [5, 6, 7]) for pid in (5, 6, 7, 8)] == [
        "/user/u/",
        "/user/u/b/",
        "/user/u/b/",
        None,
    ]


COMPUTES = ["/bin/sh", "-c", "while :; do :; done"]
SLEEPS = ["/bin/sh", "-c", "while :; do sleep 0.5; done"]
# Each of its children computes for a moment.
CHILDREN = ["/bin/sh", "-c", "while :; do timeout 0.1 sh -c 'while :; do :; done'; done"]


def idle(server, seconds=4):
    """How long it is idle after a while, as the hub is told, which asks now and then."""
    server.hear_from_hub()
    time.sleep(seconds)
    return server.hear_from_hub()["idle"]


@pytest.fixture
def run(server):
    """Start a program in the slice, as a terminal or a display does."""
    started = []

    def start(command, **environment):
        enter = ["/bin/sh", "-c", f'echo $$ >{server.slice}/cgroup.procs; exec "$@"', "sh", *command]
        started.append(subprocess.Popen(enter, env={"PATH": "/usr/bin:/bin", **environment}))

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def kernel(server):
    identity = server.api("POST", "api/kernels", {"name": "python3"})["id"]
    client = BlockingKernelClient(connection_file=str(server.home / "runtime" / f"kernel-{identity}.json"))
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(60)
    yield client
    client.stop_channels()
    server.api("DELETE", f"api/kernels/{identity}")


def test_a_process_with_a_name_that_is_no_text_is_seen():
    rename = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'\\xff) Z'); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", rename], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            assert activity.spent(process.pid) >= 0
            assert programs.read(process.pid).pid == process.pid
        finally:
            process.kill()


def test_a_busy_kernel_without_output_is_activity(server, kernel):
    kernel.execute("import time; time.sleep(6)")
    assert idle(server) < 3
    kernel.get_shell_msg(timeout=30)
    # It has ended, and waits; the next look still counts what was.
    idle(server, 2.5)
    assert idle(server) > 3


@pytest.mark.parametrize(
    ("command", "environment", "active"),
    [
        (COMPUTES, {}, True),
        (CHILDREN, {}, True),
        (COMPUTES, {"JUPYTER_DISPLAY_DIR": "/run/u/displays/1", "JUPYTERHUB_SERVICE_PREFIX": "/"}, True),
        (SLEEPS, {}, False),
        # That of another server of the user.
        (COMPUTES, {"JUPYTERHUB_SERVICE_PREFIX": "/user/u/second/"}, False),
    ],
    ids=["terminal", "children", "display", "asleep", "elsewhere"],
)
def test_a_program_that_computes_is_activity(server, run, command, environment, active):
    run(command, **environment)
    time.sleep(2.5)
    assert (idle(server) < 3) == active


def test_a_request_that_is_refused_is_no_activity(server):
    """A page tries to save again and again in a full home, say."""
    before = server.hear_from_hub()["idle"]
    time.sleep(1)
    with pytest.raises(urllib.error.HTTPError):
        server.api("PUT", "api/contents/refused.txt", {"type": "nothing", "content": ""})
    assert server.hear_from_hub()["idle"] > before + 0.9
    server.api("PUT", "api/contents/saved.txt", {"type": "file", "format": "text", "content": ""})
    assert server.hear_from_hub()["idle"] < 1


@pytest.mark.parametrize("record", ["api_last_activity", "last_activity_times"])
def test_what_other_extensions_record_is_activity(record):
    """As jupyter-server-proxy does, 4.4 in the first way and 4.6 in the other; a stand-in for a server with it."""
    moment = dt.datetime.now(dt.timezone.utc)
    settings = {"started": moment, "last_activity_times": {}}
    kernels = SimpleNamespace(last_kernel_activity=moment)
    server = SimpleNamespace(web_app=SimpleNamespace(settings=settings), kernel_manager=kernels)
    observed = activity.Activity(server, SimpleNamespace(processes=list))
    observed.idle()
    time.sleep(0.5)
    assert observed.idle() > 0.4
    now = dt.datetime.now(dt.timezone.utc)
    settings[record] = now if record == "api_last_activity" else {"proxy": now}
    assert observed.idle() < 0.4


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
def test_an_open_page_is_no_activity(page, server):
    """JupyterLab asks the server for its kernels every few seconds."""
    write_notebook(server, "open.ipynb", "1")
    open_notebook(page, server, "lab/tree", "open.ipynb")
    # What it does at its start is over.
    page.wait_for_timeout(5_000)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    server.hear_from_hub()
    began = time.monotonic()
    page.wait_for_timeout(11_000)
    wait(lambda: page.wait_for_timeout(100) or [url for url in requests if "/api/kernels" in url])
    assert server.hear_from_hub()["idle"] > time.monotonic() - began
    # The page says so every twenty seconds at most.
    wait(lambda: page.keyboard.press("ArrowDown") or server.hear_from_hub()["idle"] < 2)


@pytest.mark.parametrize("jump", [86400, -86400])
def test_a_clock_that_jumps_is_no_activity_and_no_rest(monkeypatch, jump):
    """A stand-in for the clock, and for a server that has been idle for an hour."""
    began = dt.datetime.now(dt.timezone.utc)
    seconds, clock = [0.0], [began]
    settings = {"started": began, "last_activity_times": {}}
    kernels = SimpleNamespace(last_kernel_activity=began, list_kernel_ids=list)
    server = SimpleNamespace(web_app=SimpleNamespace(settings=settings), kernel_manager=kernels)
    monkeypatch.setattr(activity.time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(
        activity, "dt", SimpleNamespace(datetime=SimpleNamespace(now=lambda _: clock[0]), timezone=dt.timezone)
    )
    found = activity.Activity(server, SimpleNamespace(processes=list))
    found.idle()
    seconds[0], clock[0] = 3600.0, began + dt.timedelta(hours=1)
    assert found.idle() == 3600
    clock[0] += dt.timedelta(seconds=jump)
    # Put back, the clock makes what was last lie in the future: then nobody can say, and the server goes on.
    assert found.idle() == (3600 if jump > 0 else 0)
    seconds[0] += 60
    found.record()
    assert found.idle() == 0
    seconds[0], clock[0] = seconds[0] + 60, clock[0] + dt.timedelta(seconds=60)
    assert found.idle() == (60 if jump > 0 else 0)
