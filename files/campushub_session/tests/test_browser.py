"""What people see in JupyterLab and in Notebook, in Chromium."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time

import pytest
from chromium import chromium

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
EAT = "blocks = []\nwhile True:\n    blocks.append(bytearray(20_000_000))"
PROGRAM = "import time\nblocks = []\nwhile True:\n    blocks.append(bytearray(2_000_000))\n    time.sleep(0.03)"


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    port = int(re.search(r":(\d+)/", server.url)[1])
    # And that of the stand-in for the hub.
    with chromium(tmp_path_factory.mktemp("chromium"), [port, port + 1000]) as browser:
        yield browser


@contextlib.contextmanager
def page_of(browser, server):
    context = browser.new_context(viewport={"width": 1300, "height": 800})
    page = context.new_page()
    page.set_default_timeout(90_000)
    # The token is kept in a cookie from then on.
    page.goto(f"{server.url}api/status?token=secret")
    yield page
    context.close()


@pytest.fixture
def page(browser, server):
    with page_of(browser, server) as page:
        yield page
    (server.home / "announcement.json").unlink(missing_ok=True)
    for session in server.api("GET", "api/sessions"):
        server.api("DELETE", f"api/sessions/{session['id']}")


@pytest.fixture(params=["lab/tree", "notebooks"], ids=["lab", "notebook"])
def application(request):
    return request.param


@pytest.fixture
def russian(server):
    path = "lab/api/settings/@jupyterlab/translation-extension:plugin"
    server.api("PUT", path, {"raw": '{"locale": "ru_RU"}'})
    yield
    server.api("PUT", path, {"raw": '{"locale": "en"}'})


def write_notebook(server, name, *cells):
    cell = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    content = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "cells": [{**cell, "id": f"c{number}", "source": source} for number, source in enumerate(cells)],
    }
    (server.home / name).write_text(json.dumps(content))


def wait(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def open_notebook(page, server, application, name):
    # Without the tabs of the test before.
    page.goto(f"{server.url}{application}/{name}?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    wait(lambda: [one["kernel"]["execution_state"] for one in server.api("GET", "api/sessions")] == ["idle"])
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    page.locator(".jp-CodeCell .cm-content").first.click()


def run_until_killed(page, server):
    kills = server.out_of_memory_kills()
    for _ in range(page.locator(".jp-CodeCell").count()):
        page.keyboard.press("Shift+Enter")
    wait(lambda: server.out_of_memory_kills() > kills)


def test_bar_has_what_is_used_and_names_the_largest(page, server, application):
    server.hear_from_hub(max_age=7200, age_left=7200)
    name = f"much-{application[:3]}.ipynb"
    write_notebook(server, name, "block = bytearray(b'x') * int(open('size').read())")
    open_notebook(page, server, application, name)
    bar = page.locator("#campushub-usage")
    bar.locator("[data-part=memory]").filter(has_text=re.compile(r"Memory \d+ MB of 500 MB")).wait_for()
    bar.locator("[data-part=home]").filter(has_text=re.compile(r"Home \d+%")).wait_for()
    bar.locator("[data-part=time]").filter(has_text=re.compile(r"(1 h 5\d|2 h 0) min left")).wait_for()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    used = server.api("GET", "api/session/usage")["memory"]["used"]
    (server.home / "size").write_text(str(0.97 * 500 * 2**20 - used).partition(".")[0])
    page.keyboard.press("Shift+Enter")
    bar.locator("[data-part=memory][data-level=critical]").wait_for()
    # It is told so; a page that asked would be counted as active by the proxy.
    assert not [url for url in requests if "/api/session/" in url]
    bar.locator("button").click()
    first = page.locator(".campushub-Programs tbody tr").first
    assert first.locator("td").first.inner_text() == name
    first.get_by_role("button", name="Shut down").click()
    wait(lambda: server.api("GET", "api/sessions") == [])
    page.locator(".campushub-Programs").filter(has_not_text=name).wait_for()
    page.get_by_role("button", name="Close").click()
    bar.locator("[data-part=memory][data-level='']").wait_for()


def test_killed_kernel_is_told_at_its_cell(page, server, application):
    name = f"eat-{application[:3]}.ipynb"
    write_notebook(server, name, "'first'", EAT, "'third'")
    open_notebook(page, server, application, name)
    run_until_killed(page, server)
    output = page.locator(".jp-CodeCell").nth(1).locator(".jp-RenderedText")
    output.wait_for(timeout=3_000)
    sentence = f"The kernel of {name} was ended because your memory was used up."
    assert sentence in output.inner_text()
    assert re.search(r"used up to \d+ MB of 500 MB", output.inner_text())
    assert page.locator(".jp-CodeCell").nth(2).locator(".jp-RenderedText").count() == 0
    dialog = page.locator(".jp-Dialog")
    dialog.wait_for()
    assert sentence in dialog.inner_text()
    assert "appears to have died" not in dialog.inner_text()
    dialog.locator("button").click()
    # In the journal, which the server writes to.
    assert "was killed for want of memory: " + name in server.log.read_text()


def test_killed_kernel_is_told_in_russian(page, server, russian):
    write_notebook(server, "rus.ipynb", EAT)
    open_notebook(page, server, "lab/tree", "rus.ipynb")
    page.locator("#campushub-usage").get_by_text(re.compile(r"Память \d+ МБ из 500 МБ")).wait_for()
    run_until_killed(page, server)
    announce(server, texts={"": "Slow", "ru": "Медленно"})
    page.locator(".campushub-Announcement").get_by_text("Медленно").wait_for()
    text = "Ядро блокнота rus.ipynb завершено: ваша память исчерпана."
    page.locator(".jp-CodeCell .jp-RenderedText").get_by_text(text).wait_for()


def test_kernel_that_ends_otherwise_is_not_explained(page, server):
    write_notebook(server, "kill.ipynb", "import os\nos.kill(os.getpid(), 9)")
    open_notebook(page, server, "lab/tree", "kill.ipynb")
    page.keyboard.press("Shift+Enter")
    dialog = page.locator(".jp-Dialog")
    dialog.wait_for()
    assert "appears to have died" in dialog.inner_text()
    assert page.locator(".jp-CodeCell .jp-RenderedText").count() == 0


def announce(server, **announcement):
    document = {"id": str(time.time()), "from": None, "until": None, **announcement}
    (server.home / "new.json").write_text(json.dumps(document))
    (server.home / "new.json").rename(server.home / "announcement.json")


def test_announcements_reach_an_open_page(page, server, application):
    write_notebook(server, "announced.ipynb", "1")
    page.goto(f"{server.url}{application}/announced.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    box = page.locator(".campushub-Announcement")
    announce(server, texts={"": "<b>Slow</b> storage", "ru": "Медленно"}, until=time.time() + 3600)
    # Not that of the test before, which the server may still have.
    box.filter(has_text="storage").wait_for()
    assert box.locator("span").inner_text() == "<b>Slow</b> storage"
    # Changed, not yet to be shown, and to be shown only for a moment.
    announce(server, texts={"": "Later"}, **{"from": time.time() + 4})
    box.wait_for(state="hidden")
    box.wait_for()
    announce(server, texts={"": "Soon over"}, until=time.time() + 4)
    box.get_by_text("Soon over").wait_for()
    box.wait_for(state="hidden")
    # Dismissed, for this page and the next one.
    announce(server, texts={"": "Reboot at 18:00"})
    box.get_by_role("button", name="Dismiss").click()
    assert box.is_hidden()
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    assert box.is_hidden()


def test_killed_program_is_named(page, server):
    """A program in a terminal, say."""
    (server.home / "eater.py").write_text(PROGRAM)
    write_notebook(server, "program.ipynb", "import subprocess, sys\nsubprocess.run([sys.executable, 'eater.py'])")
    open_notebook(page, server, "lab/tree", "program.ipynb")
    run_until_killed(page, server)
    told = page.locator(".Toastify__toast").get_by_text("was ended because your memory was used up.")
    told.wait_for(timeout=3_500)
    assert "The program python" in told.inner_text()
    assert "500 MB of 500 MB." in told.inner_text()
    page.get_by_role("button", name="What you run").click()
    page.locator(".campushub-Programs").get_by_text("program.ipynb").wait_for()
    page.get_by_role("button", name="Close").click()
    assert page.locator(".jp-Dialog").count() == 0
