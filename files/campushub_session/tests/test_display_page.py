"""The page of a desktop without notebooks, `jupyterhub-desktop`, in Chromium, with a stand-in for the hub."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from chromium import chromium, keep_picture

from .conftest import HUB_SECRET, PACKAGE, ROOT, run_in_slice
from .test_browser import announce, wait
from .test_ends import HubHandler

DISPLAYS = ROOT / "files/jupyter_displays"
needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
pytestmark = pytest.mark.skipif(not shutil.which("Xvnc"), reason="TigerVNC is not installed")
USER = {"kind": "user", "name": "u", "groups": [], "admin": False, "scopes": ["access:servers!server=u/"]}
# A program that grows slowly enough to have a name when it is killed.
EATER = "import time\nblocks = []\nwhile True:\n    blocks.append(bytearray(2_000_000))\n    time.sleep(0.03)"


class Hub(HubHandler):
    """A stand-in for the hub, which also knows whose tokens are whose."""

    def do_GET(self):  # noqa: N802 (the name that the base calls)
        known = self.headers["Authorization"] in {"token good", "token own"}
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(json.dumps(USER).encode() if known else b"{}")

    def do_POST(self):  # noqa: N802 (the name that the base calls)
        if not self.path.endswith("/oauth2/token"):
            super().do_POST()
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"access_token": "good", "token_type": "Bearer"}')


@pytest.fixture(scope="module")
def hub():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        running.asked, running.says = [], lambda _: (200, {})
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def desktop(hub, tmp_path_factory):
    directory = tmp_path_factory.mktemp("desktop")
    # As the wheel installs it.
    config = directory / "config"
    config.mkdir()
    shutil.copy(PACKAGE / "etc/jupyter_displays_config.json", config)
    (config / "jupyter_displays_config.py").write_text(
        f"c.SessionApp.announcement_file = {str(directory / 'announcement.json')!r}\n"
        "c.DisplayManager.engine = 'tigervnc'\n"
        f"c.DisplayManager.runtime_directory = {str(directory / 'd')!r}\n"
        "c.DisplayManager.applications = {'desktop': {'title': 'Desk', 'command': ['sh', '-c', "
        "'xsetroot -solid \"#204060\"; sleep 600']}}\n"
    )
    (directory / "eater.py").write_text(EATER)
    port = 18_700 + os.getpid() % 100
    url = f"http://127.0.0.1:{port}/user/u/"
    api = f"http://127.0.0.1:{hub.server_port}/hub/api"
    environment = {
        "HOME": str(directory),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": f"{PACKAGE.parent}:{DISPLAYS}",
        "JUPYTER_CONFIG_DIR": str(config),
        "LANG": "C.UTF-8",
        "CAMPUSHUB_SESSION_SECRET": HUB_SECRET,
        "JUPYTERHUB_API_URL": api,
        "JUPYTERHUB_API_TOKEN": "own",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-u",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/u/oauth_callback",
        "JUPYTERHUB_OAUTH_SCOPES": '["access:servers!server=u/"]',
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=u/"]',
        "JUPYTERHUB_SERVICE_PREFIX": "/user/u/",
        "JUPYTERHUB_SERVICE_URL": url,
        "JUPYTERHUB_USER": "u",
    }
    command = [sys.executable, "-m", "jupyter_displays.standalone"]
    log = directory / "server.log"
    with run_in_slice(command, environment, url, directory, log, first="api/displays", token="good") as server:
        wait(lambda: server.api("GET", "api/displays", token="good")["displays"][0]["state"] == "running")
        yield server


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def log_in(url):
    """Log in as a browser does that the hub sends back, and return the cookies."""
    opener = urllib.request.build_opener(NoRedirect)

    def visit(address, cookies=""):
        try:
            opener.open(urllib.request.Request(address, headers={"Cookie": cookies}), timeout=10)
        except urllib.error.HTTPError as redirect:
            return redirect.headers
        raise AssertionError(address)

    away = visit(url)
    state = parse_qs(urlsplit(away["Location"]).query)["state"][0]
    sent = "; ".join(cookie.partition(";")[0] for cookie in away.get_all("Set-Cookie"))
    back = visit(f"{url}oauth_callback?code=x&state={state}", sent)
    pairs = [cookie.partition(";")[0].partition("=")[::2] for cookie in back.get_all("Set-Cookie")]
    return [{"name": name, "value": value.strip('"'), "url": url} for name, value in pairs if value != '""']


@pytest.fixture(scope="module")
def browser(desktop, tmp_path_factory):
    port = int(re.search(r":(\d+)/", desktop.url)[1])
    with chromium(tmp_path_factory.mktemp("chromium"), [port]) as browser:
        yield browser


@contextlib.contextmanager
def page_of(browser, desktop, locale="en-US"):
    context = browser.new_context(viewport={"width": 1000, "height": 600}, locale=locale)
    context.add_cookies(log_in(desktop.url))
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(desktop.url)
    page.wait_for_selector("#campushub-usage [data-part=memory]")
    yield page
    context.close()


@pytest.fixture
def page(browser, desktop):
    with page_of(browser, desktop) as page:
        yield page
    (desktop.home / "announcement.json").unlink(missing_ok=True)
    desktop.hear_from_hub()


@needs_chromium
def test_a_desktop_has_the_bar_and_names_what_uses_most(page, desktop):
    bar = page.locator(".jp-Display-toolbar #campushub-usage")
    bar.locator("[data-part=memory]").filter(has_text=re.compile(r"Memory \d+ MB of 500 MB")).wait_for()
    desktop.hear_from_hub(max_age=7200, age_left=7000)
    bar.locator("[data-part=time]").filter(has_text=re.compile(r"1 h 5\d min left")).wait_for()
    bar.locator("button").click()
    programs = page.locator("dialog .campushub-Programs")
    programs.get_by_text("Display: display/").wait_for()
    page.get_by_role("button", name="Close").click()
    programs.wait_for(state="detached")


@needs_chromium
def test_announcements_reach_an_open_desktop(page, desktop):
    box = page.locator(".jp-Display .campushub-Announcement")
    announce(desktop, texts={"": "<b>Slow</b> storage"})
    box.get_by_text("<b>Slow</b> storage").wait_for()
    announce(desktop, texts={"": "All is well"})
    box.get_by_text("All is well").wait_for()
    box.get_by_role("button", name="Dismiss").click()
    box.wait_for(state="hidden")


@needs_chromium
@pytest.mark.parametrize(
    ("locale", "announced", "end"),
    [
        ("en-US", "The storage is slow until 18:00.", "The time that a server has is nearly over."),
        ("ru-RU", "До 18:00 хранилище работает медленно.", "Сохраните свою работу в открытых программах."),
    ],
)
def test_a_desktop_speaks_the_language_of_the_browser(browser, desktop, locale, announced, end):
    announce(desktop, texts={"": "The storage is slow until 18:00.", "ru": "До 18:00 хранилище работает медленно."})
    desktop.hear_from_hub(max_age=86400, age_left=590, extension=3600)
    with page_of(browser, desktop, locale) as page:
        page.locator(".campushub-Announcement").get_by_text(announced).wait_for()
        page.locator(".campushub-End").get_by_text(end).wait_for()
        page.locator("#campushub-usage [data-part=time][data-level=critical]").wait_for()
        keep_picture(page, "desktop-end" if locale == "en-US" else "desktop-end-ru")
    desktop.hear_from_hub()


@needs_chromium
def test_an_end_of_a_desktop_is_announced_and_put_off(page, desktop, hub):
    box = page.locator(".jp-Display .campushub-End")
    desktop.hear_from_hub(max_age=86400, maintenance_left=590)
    box.get_by_text("Maintenance begins. Your server stops in 10 min. Save your work").wait_for(timeout=3_000)
    desktop.hear_from_hub(max_age=86400, age_left=590, extension=3600)

    def extend(_):
        desktop.hear_from_hub(max_age=86400, age_left=4190)
        return 200, {"seconds": 3600}

    hub.says = extend
    box.get_by_role("button", name="Stay longer").click()
    box.wait_for(state="hidden")
    assert ("POST", "/hub/api/users/u/servers//lifetime", "token own") in hub.asked
    desktop.hear_from_hub(max_age=86400, age_left=100)
    box.get_by_role("button", name="Stop the server").click()
    wait(lambda: ("DELETE", "/hub/api/users/u/servers//lifetime", "token own") in hub.asked)
    began = time.monotonic()
    desktop.hear_from_hub(ending={"reason": "administrator", "message": "New disks"})
    box.get_by_text("An administrator has stopped your server: New disks").wait_for()
    assert time.monotonic() - began < 3


@needs_chromium
def test_a_killed_program_of_a_desktop_is_named(page, desktop):
    kills = desktop.out_of_memory_kills()
    (display,) = desktop.api("GET", "api/displays", token="good")["displays"]
    process = start_in(desktop, [sys.executable, "eater.py"])
    wait(lambda: desktop.out_of_memory_kills() > kills, 60)
    page.get_by_text("The program python").wait_for(timeout=3_500)
    assert "was ended because your memory was used up." in page.locator(".campushub-Kill").inner_text()
    process.wait()
    # The screen is still there.
    assert desktop.api("GET", f"api/displays/{display['id']}", token="good")["state"] == "running"


def start_in(desktop, command):
    """Start a program in the slice of the desktop, as one of its windows would."""
    shell = ["/bin/sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(desktop.slice)]
    return subprocess.Popen([*shell, *command], cwd=desktop.home)


def test_a_desktop_that_computes_is_activity(desktop):
    process = start_in(desktop, [sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(5)
        assert desktop.hear_from_hub()["idle"] < 4
    finally:
        process.kill()
        process.wait()
    # The look that follows still counts what was spent until now.
    time.sleep(3)
    desktop.hear_from_hub()
    idle = desktop.hear_from_hub()["idle"]
    time.sleep(3)
    assert desktop.hear_from_hub()["idle"] > idle + 2


def test_whoever_has_a_link_to_a_desktop_sees_no_limits(desktop):
    (display,) = desktop.api("GET", "api/displays", token="good")["displays"]
    share = desktop.api("POST", f"api/displays/{display['id']}/shares", {"mode": "view"}, token="good")
    address = desktop.url.split("/user/")[0] + urlsplit(share["url"]).path
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert b"api/session" not in answer.read()
    for path in ("usage", "end", "announcement", "programs"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{desktop.url}api/session/{path}", timeout=10)
        assert refused.value.code == 403
