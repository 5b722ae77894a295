"""Ends of the server, in a real Jupyter server with a stand-in for the hub, and in Chromium."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shutil
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import websocket

from campushub_session.events import END

from .conftest import HUB_SECRET
from .test_browser import application, browser, open_notebook, page, page_of, wait, write_notebook

__all__ = ["application", "browser", "page"]
ENDING = {"reason": "idle", "message": ""}
PROC = Path("/proc")
needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")


class HubHandler(BaseHTTPRequestHandler):
    """A stand-in for the hub: notes what a server asks for, and says what its test wants."""

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        status, body = self.server.says(self.command)
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 (the names that the base calls)

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def hub(server):
    port = int(re.search(r":(\d+)/", server.url)[1]) + 1000
    with ThreadingHTTPServer(("127.0.0.1", port), HubHandler) as running:
        running.asked, running.says = [], lambda _: (200, {})
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
    if server.process.poll() is None:
        server.hear_from_hub()


def end(server):
    return server.api("GET", "api/session/end")


def test_only_the_hub_sets_the_rules(server):
    for secret in ("", "guess", "secret"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.hear_from_hub(secret, max_age=1, age_left=1)
        assert refused.value.code == 403
    assert end(server)["reason"] is None


def test_programs_of_the_user_do_not_get_the_secret(server):
    kernel = server.api("POST", "api/kernels", {"name": "python3"})
    terminal = server.api("POST", "api/terminals")
    started = [*map(int, (server.slice / "cgroup.procs").read_text().split())]
    started.remove(server.process.pid)
    seen = set()
    try:
        for pid in started:
            # A shell starts programs that have ended a moment later.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                wait(lambda pid=pid: "LANG=" in (PROC / str(pid) / "environ").read_text())
                assert HUB_SECRET not in (PROC / str(pid) / "environ").read_text()
                seen.add("ipykernel" in (PROC / str(pid) / "cmdline").read_text())
    finally:
        server.api("DELETE", f"api/kernels/{kernel['id']}")
        server.api("DELETE", f"api/terminals/{terminal['name']}")
    assert seen == {True, False}


def test_the_hub_is_told_of_activity(server):
    first = server.hear_from_hub()["idle"]
    time.sleep(2)
    server.api("GET", "api/session/usage")
    assert server.hear_from_hub()["idle"] >= first + 1.9
    server.api("POST", "api/contents", {"type": "file"})
    assert server.hear_from_hub()["idle"] < 1


@pytest.mark.parametrize(
    ("rules", "reason", "left", "stays"),
    [
        ({"max_age": 86400, "age_left": 1900}, None, 0, False),
        ({"max_age": 86400, "age_left": 1700}, "max_age", 1700, False),
        ({"max_age": 86400, "age_left": 100, "extension": 60}, "max_age", 100, True),
        # At most half of the time that a server has.
        ({"max_age": 120, "age_left": 70}, None, 0, False),
        ({"max_age": 120, "age_left": 50}, "max_age", 50, False),
        ({"idle_timeout": 43200}, None, 0, False),
        ({"idle_timeout": 43200, "maintenance_left": 1000}, "maintenance", 1000, False),
        ({"max_age": 86400, "age_left": 100, "maintenance_left": 1000}, "max_age", 100, False),
        ({"idle_timeout": 10}, None, 0, False),
        ({"max_age": 86400, "age_left": 100, "warnings": []}, None, 0, False),
        ({"ending": {"reason": "administrator", "message": "<b>"}}, "administrator", 0, False),
    ],
)
def test_an_end_that_is_near_is_known(server, rules, reason, left, stays):
    server.api("POST", "api/session/activity")
    server.hear_from_hub(**rules)
    found = end(server)
    assert (found["reason"], found["stays"]) == (reason, stays)
    assert left - 3 < found["seconds_left"] <= left
    server.hear_from_hub()


def test_staying_longer_is_activity_or_a_request(server, hub):
    server.api("POST", "api/session/activity")
    server.hear_from_hub(idle_timeout=6)
    time.sleep(4)
    assert end(server)["reason"] == "idle"
    assert server.api("POST", "api/session/end")["reason"] is None
    assert hub.asked == []
    server.hear_from_hub(max_age=100, age_left=20, extension=60)
    server.api("POST", "api/session/end")
    assert hub.asked == [("POST", "/hub/api/users/u/servers//lifetime", "token own")]
    hub.says = lambda _: (403, {"message": "This server gets no more time."})
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.api("POST", "api/session/end")
    assert refused.value.code == 403
    assert "no more time" in json.loads(refused.value.read())["message"]


def test_the_hub_waits_for_pages_that_save(server):
    assert server.hear_from_hub()["saving"] == 0
    server.api("PUT", "api/session/saves/1a-2b")
    assert server.hear_from_hub()["saving"] == 1
    server.api("DELETE", "api/session/saves/1a-2b")
    assert server.hear_from_hub()["saving"] == 0


def test_one_page_saves_after_the_other(server):
    """And one that was closed meanwhile holds up nobody for long."""
    begin = functools.partial(server.api, "PUT")
    with ThreadPoolExecutor() as pages:
        for closed in (False, True):
            begin("api/session/saves/1")
            began = time.monotonic()
            second = pages.submit(begin, "api/session/saves/2")
            wait(lambda: server.hear_from_hub()["saving"] == 2)
            third = pages.submit(begin, "api/session/saves/3")
            wait(lambda: server.hear_from_hub()["saving"] == 3)
            assert not second.done()
            if not closed:
                server.api("DELETE", "api/session/saves/1")
            second.result(8)
            assert (4 < time.monotonic() - began < 8) if closed else time.monotonic() - began < 4
            assert not third.done()
            server.api("DELETE", "api/session/saves/2")
            third.result(2)
            server.api("DELETE", "api/session/saves/3")
            assert server.hear_from_hub()["saving"] == 0


@pytest.fixture
def connect(server):
    """Open the connection over which a page is told of an end; a stand-in for that page."""
    opened = []

    def open_connection():
        url = f"{server.url.replace('http', 'ws', 1)}api/events/subscribe"
        opened.append(websocket.create_connection(url, header=["Authorization: token secret"]))
        return opened[-1]

    server.hear_from_hub()
    yield open_connection
    for connection in opened:
        connection.close()
    server.hear_from_hub()


def test_the_hub_waits_until_all_pages_have_answered(server, connect):
    pages = [connect(), connect()]
    assert server.hear_from_hub()["waiting"] == 0
    for _ in range(2):
        assert server.hear_from_hub(ending=ENDING)["waiting"] == 2
        time.sleep(2)
        assert server.hear_from_hub(ending=ENDING)["waiting"] == 2
        server.api("PUT", "api/session/saves/1")
        told = server.hear_from_hub(ending=ENDING)
        assert (told["waiting"], told["saving"]) == (1, 1)
        server.api("DELETE", "api/session/saves/1")
        told = server.hear_from_hub(ending=ENDING)
        assert (told["waiting"], told["saving"]) == (1, 0)
        # One with nothing to save.
        server.api("DELETE", "api/session/saves/2")
        assert server.hear_from_hub(ending=ENDING)["waiting"] == 0
        # It was called off, and the next one asks again.
        server.hear_from_hub()
    server.hear_from_hub(ending=ENDING)
    pages[0].close()
    wait(lambda: server.hear_from_hub(ending=ENDING)["waiting"] == 1)


def test_a_page_that_was_closed_does_not_save_any_more(server, connect):
    page = connect()
    server.api("PUT", "api/session/saves/1")
    assert server.hear_from_hub()["saving"] == 1
    page.close()
    wait(lambda: server.hear_from_hub()["saving"] == 0, 5)


def test_an_end_that_is_late_has_not_come(server, connect):
    connection = connect()

    def told():
        found = []
        # Ends are looked at each second.
        connection.settimeout(3)
        with contextlib.suppress(websocket.WebSocketTimeoutException):
            while True:
                event = json.loads(connection.recv())
                found += [event["seconds_left"]] if event["schema_id"] == END else []
        return found

    server.hear_from_hub(max_age=100, age_left=-5)
    assert end(server)["seconds_left"] == 1
    assert told() == [1]
    server.hear_from_hub(max_age=100, age_left=-12, ending=ENDING)
    assert told() == [0]


def change(page, text="# changed "):
    """Write into the first cell, without saving."""
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.type(text)


def end_as_the_hub(server, page, ending=None):
    """Tell of an end and wait for pages, as the hub does; routes of a page are handled while that is waited for."""
    deadline = time.monotonic() + 15
    while (told := server.hear_from_hub(ending=ending or ENDING))["waiting"] or told["saving"]:
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)


@needs_chromium
def test_an_end_is_announced_and_put_off(page, server, hub, application):
    name = f"ends-{application[:3]}.ipynb"
    write_notebook(server, name, "1")
    open_notebook(page, server, application, name)
    box = page.locator(".campushub-End")
    server.hear_from_hub(max_age=86400, age_left=1750)
    box.get_by_text("Yours stops in 29 min.").wait_for(timeout=3_000)
    assert box.get_by_role("button", name="Stay longer").count() == 0
    # Dismissed, until the next warning.
    box.get_by_role("button", name="Dismiss").click()
    box.wait_for(state="hidden")
    server.hear_from_hub(max_age=86400, age_left=590, extension=3600)

    def extend(_):
        server.hear_from_hub(max_age=86400, age_left=4190, extension=0)
        return 200, {"seconds": 3600}

    hub.says = extend
    box.get_by_text("Yours stops in 10 min.").wait_for(timeout=3_000)
    box.get_by_role("button", name="Stay longer").click()
    box.wait_for(state="hidden")
    page.locator("#campushub-usage [data-part=time]").get_by_text("1 h 10 min left").wait_for()
    server.hear_from_hub(max_age=86400, age_left=100, extension=3600)
    hub.says = lambda _: (403, {"message": "This server gets no more time."})
    box.get_by_role("button", name="Stay longer").click()
    box.get_by_text("This server gets no more time.").wait_for()
    change(page)
    box.get_by_role("button", name="Save all and stop").click()
    wait(lambda: ("DELETE", "/hub/api/users/u/servers//lifetime", "token own") in hub.asked)
    assert "# changed" in (server.home / name).read_text()


@needs_chromium
def test_unsaved_notebooks_are_saved_at_the_end(page, server, application):
    """By a page that answers late, after a hub that was late, too."""
    name = f"own-{application[:3]}.ipynb"
    write_notebook(server, name, "1")
    open_notebook(page, server, application, name)
    change(page)
    box = page.locator(".campushub-End")
    server.hear_from_hub(max_age=100, age_left=-5)
    box.get_by_text("Yours stops in 1 min.").wait_for()

    def answer_late(route):
        page.wait_for_timeout(2_000)
        route.continue_()

    page.route("**/api/session/saves/*", answer_late)
    message = "New memory <b>at</b> noon"
    end_as_the_hub(server, page, {"reason": "administrator", "message": message})
    assert box.get_by_text(f"An administrator has stopped your server: {message}").is_visible()
    assert "# changed" in (server.home / name).read_text()
    server.hear_from_hub()


@needs_chromium
def test_two_pages_with_different_texts_lose_neither(browser, page, server):
    """Both are told at the same moment."""
    write_notebook(server, "both.ipynb", "1")
    open_notebook(page, server, "lab/tree", "both.ipynb")
    with page_of(browser, server) as other:
        open_notebook(other, server, "notebooks", "both.ipynb")
        change(page, "# mine ")
        change(other, "# theirs ")
        end_as_the_hub(server, page)
        assert page.locator(".jp-Dialog").count() + other.locator(".jp-Dialog").count() == 0
    texts = [path.read_text() for path in server.home.glob("both*.ipynb")]
    assert sorted(name for text in texts for name in ("mine", "theirs") if name in text) == ["mine", "theirs"]
    server.hear_from_hub()


@needs_chromium
def test_a_save_of_its_own_is_no_other_text(page, server):
    """The end comes while JupyterLab saves by itself."""
    write_notebook(server, "auto.ipynb", "1")
    open_notebook(page, server, "lab/tree", "auto.ipynb")
    change(page)

    def answer_late(route):
        if route.request.method != "PUT":
            route.continue_()
            return
        answer = route.fetch()
        server.hear_from_hub(ending=ENDING)
        page.wait_for_timeout(1_000)
        route.fulfill(response=answer)

    page.route("**/api/contents/auto.ipynb*", answer_late)
    page.keyboard.press("Control+S")
    page.locator(".campushub-End").get_by_text("nothing happened there").wait_for()
    end_as_the_hub(server, page)
    assert "# changed" in (server.home / "auto.ipynb").read_text()
    assert [*server.home.glob("auto (unsaved *)")] == []
    server.hear_from_hub()


@needs_chromium
def test_a_file_that_changes_at_the_last_moment_asks_nothing(page, server):
    """After the page has looked whether it has, and before JupyterLab does."""
    write_notebook(server, "late.ipynb", "1")
    open_notebook(page, server, "lab/tree", "late.ipynb")
    change(page)

    def change_after(route):
        answer = route.fetch()
        write_notebook(server, "late.ipynb", "'theirs'")
        route.fulfill(response=answer)

    page.route(re.compile(r"/api/contents/late\.ipynb\?.*hash=1"), change_after, times=1)
    end_as_the_hub(server, page)
    (copy,) = server.home.glob("late (unsaved *).ipynb")
    assert "# changed" in copy.read_text()
    assert "theirs" in (server.home / "late.ipynb").read_text()
    assert page.locator(".jp-Dialog").count() == 0
    server.hear_from_hub()


@needs_chromium
def test_two_unsaved_texts_are_both_kept_at_the_end(page, server, application):
    """What another page has saved meanwhile, and beside it that of this page, which asks nothing."""
    name = f"two-{application[:3]}"
    write_notebook(server, f"{name}.ipynb", "1")
    open_notebook(page, server, application, f"{name}.ipynb")
    change(page)
    write_notebook(server, f"{name}.ipynb", "'theirs'")
    server.hear_from_hub(ending={"reason": "idle", "message": ""})
    wait(lambda: [*server.home.glob(f"{name} (unsaved *).ipynb")])
    wait(lambda: server.hear_from_hub()["saving"] == 0)
    (copy,) = server.home.glob(f"{name} (unsaved *).ipynb")
    assert "# changed" in copy.read_text()
    assert "theirs" in (server.home / f"{name}.ipynb").read_text()
    assert page.locator(".jp-Dialog").count() == 0


@needs_chromium
def test_a_page_closed_while_it_saves_leaves_the_file_whole(browser, server):
    write_notebook(server, "closed.ipynb", "1")
    before = (server.home / "closed.ipynb").read_text()
    with page_of(browser, server) as page:
        open_notebook(page, server, "lab/tree", "closed.ipynb")
        change(page)
        held = []

        def hold(route):
            held.append(route)

        page.route("**/api/contents/closed.ipynb*", hold)
        server.hear_from_hub(ending={"reason": "max_age", "message": ""})
        # It has begun, and its request never gets there.
        page.wait_for_timeout(1500)
        assert held
        assert server.hear_from_hub(ending={"reason": "max_age", "message": ""})["saving"] == 1
    assert (server.home / "closed.ipynb").read_text() == before
    # It is forgotten with its page, so neither the hub nor the next page that saves waits for it.
    wait(lambda: server.hear_from_hub()["saving"] == 0)
