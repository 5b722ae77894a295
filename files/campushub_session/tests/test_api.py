"""The API, in a real Jupyter server."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tornado import web

from campushub_session.handlers import HANDLERS


@pytest.fixture
def foreign():
    """A process that is not in the slice."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def identity(pid):
    stat = Path(f"/proc/{pid}/stat").read_text()
    return f"{pid}-{stat.rpartition(')')[2].split()[19]}"


def refusal(server, method, path, token="secret"):
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.api(method, path, token=token)
    return refused.value.code


def programs(server, kind):
    return [program for program in server.api("GET", "api/session/programs") if program["kind"] == kind]


def test_usage_is_that_of_all_in_the_slice(server):
    server.hear_from_hub(max_age=7200, age_left=7150)
    usage = server.api("GET", "api/session/usage")
    assert usage["memory"]["limit"] == 500 << 20
    assert 20 << 20 < usage["memory"]["used"] < 500 << 20
    assert 0 < usage["home"]["used"] < usage["home"]["limit"]
    assert 7000 < usage["seconds_left"] < 7200


def test_questions_are_no_activity(server):
    before = server.api("GET", "api/status")["last_activity"]
    time.sleep(0.1)
    server.api("GET", "api/session/usage")
    server.api("GET", "api/session/programs")
    assert server.api("GET", "api/status")["last_activity"] == before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"id": 1}', '"text"'])
def test_a_broken_announcement_is_none(server, content):
    (server.home / "announcement.json").write_text(content)
    # It is looked at twice a second here.
    time.sleep(1)
    assert server.api("GET", "api/session/announcement")["texts"] == {}
    (server.home / "announcement.json").unlink()


def test_programs_are_named_and_shut_down(server):
    session = {"path": "a.ipynb", "name": "", "type": "notebook", "kernel": {"name": "python3"}}
    server.api("POST", "api/sessions", session)
    terminal = server.api("POST", "api/terminals")["name"]
    command = f'echo $$ >{server.slice}/cgroup.procs; exec python3 -c "import time; time.sleep(600)" --password=x'
    process = subprocess.Popen(["/bin/sh", "-c", command])
    try:
        deadline = time.monotonic() + 10
        while not programs(server, "process") and time.monotonic() < deadline:
            time.sleep(0.1)
        (kernel,), (shell,), (other,) = (programs(server, kind) for kind in ("kernel", "terminal", "process"))
        (own,) = programs(server, "server")
        assert (kernel["name"], shell["name"], own["address"]) == ("a.ipynb", terminal, "")
        # Arguments may be secret.
        assert other["name"] == "python3"
        assert kernel["memory"] > 5 << 20
        for program in (kernel, shell, other):
            server.api("DELETE", program["address"])
        assert process.wait(10) == -15
        assert server.api("GET", "api/sessions") == server.api("GET", "api/terminals") == []
    finally:
        process.kill()


def test_displays_and_other_servers_are_told_apart(server):
    """By what their processes were started with."""
    display = {"JUPYTER_DISPLAY_DIR": "/run/u/displays/3", "JUPYTERHUB_SERVICE_PREFIX": "/"}
    second = {"JUPYTERHUB_SERVICE_PREFIX": "/user/u/second/"}
    enter = ["/bin/sh", "-c", f"echo $$ >{server.slice}/cgroup.procs; exec sleep 600"]
    started = [subprocess.Popen(enter, env={**one, "PATH": "/usr/bin:/bin"}) for one in (display, display, second)]
    try:
        deadline = time.monotonic() + 10
        while len(server.slice.joinpath("cgroup.procs").read_text().split()) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        (found,) = programs(server, "display")
        assert (found["name"], found["address"]) == ("display/3", "api/displays/3")
        assert sorted(program["name"] for program in programs(server, "server")) == ["", "second"]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_processes_of_others_are_not_touched(server, foreign):
    assert refusal(server, "DELETE", f"api/session/processes/{identity(foreign.pid)}") == 404
    assert refusal(server, "DELETE", f"api/session/processes/{identity(server.process.pid)}") == 404
    assert refusal(server, "DELETE", f"api/session/processes/{server.process.pid}-1") == 404
    assert foreign.poll() is None
    assert server.process.poll() is None


@pytest.mark.parametrize("path", ["usage", "programs"])
def test_nobody_else_gets_an_answer(server, path):
    assert refusal(server, "GET", f"api/session/{path}", token="guess") == 403


# Who is let in without a login, and why. All other methods of all other handlers refuse.
FOR_EVERYBODY = {
    ("HubHandler", "PUT"): "the hub, which has no login and is known by a secret",
    ("StaticHandler", "GET"): "pages of displays load it; it has nothing of a user",
    ("StaticHandler", "HEAD"): "as GET",
}


def methods():
    """Return the methods of all handlers, each with a path."""
    missing = web.RequestHandler._unimplemented_method
    for pattern, handler, *_ in HANDLERS:
        for name in handler.SUPPORTED_METHODS:
            # OPTIONS is Jupyter's own, and tells nothing.
            if name != "OPTIONS" and getattr(handler, name.lower()) is not missing:
                yield (handler.__name__, name), re.sub(r"\(.*\)", "1-1", pattern).lstrip("/")


REFUSING = [(method, path) for (handler, method), path in methods() if (handler, method) not in FOR_EVERYBODY]


@pytest.mark.parametrize(("method", "path"), REFUSING)
def test_without_a_login_every_handler_refuses(server, method, path):
    """Also who has the token against forged requests, which every visitor gets."""
    with urllib.request.urlopen(f"{server.url}login") as page:
        cookies = page.headers.get_all("Set-Cookie")
    (cookie,) = (cookie.partition(";")[0] for cookie in cookies if "_xsrf" in cookie)
    headers = {"Cookie": cookie, "X-XSRFToken": cookie.partition("=")[2]}
    body = b"{}" if method in {"POST", "PUT"} else None
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{server.url}{path}", body, headers, method=method))
    assert refused.value.code == 403


def test_methods_for_everybody_are_all_there():
    assert set(FOR_EVERYBODY) < {method for method, _ in methods()}


def test_a_storm_of_kernels_is_forgotten(server):
    """Each leaves no descriptor behind."""

    def descriptors():
        found = []
        for file in Path(f"/proc/{server.process.pid}/fd").iterdir():
            # Others come and go.
            with contextlib.suppress(FileNotFoundError):
                found.append(str(file.readlink()))
        return len([target for target in found if "pidfd" in target])

    before = descriptors()
    for _ in range(3):
        kernel = server.api("POST", "api/kernels", {"name": "python3"})["id"]
        server.api("POST", f"api/kernels/{kernel}/restart")
        server.api("DELETE", f"api/kernels/{kernel}")
    assert descriptors() == before
