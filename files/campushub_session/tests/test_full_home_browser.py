"""A home without room, in JupyterLab in Chromium: what takes the space is shown, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time

import pytest
from chromium import chromium

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "cells": [
        {"cell_type": "code", "id": "a", "metadata": {}, "source": "old = 1", "outputs": [], "execution_count": None}
    ],
}


@pytest.fixture
def server(small, tmp_path, start_server):
    (small / "plan.ipynb").write_text(json.dumps(NOTEBOOK))
    (small / "data").mkdir()
    (small / "data" / "first.bin").write_bytes(bytes(3 << 19))
    with contextlib.suppress(OSError), (small / "second.bin").open("wb", 0) as file:
        while file.write(bytes(4096)):
            pass
    directory = tmp_path / "server"
    directory.mkdir()
    with start_server(directory, home=small) as running:
        yield running


@pytest.fixture
def page(server, tmp_path_factory):
    port = int(re.search(r":(\d+)/", server.url)[1])
    with chromium(tmp_path_factory.mktemp("chromium"), [port]) as browser:
        page = browser.new_context(viewport={"width": 1300, "height": 800}).new_page()
        page.set_default_timeout(30_000)
        page.goto(f"{server.url}api/status?token=secret")
        yield page


def test_a_full_home_is_made_room_in_and_nothing_is_lost(page, server):
    page.goto(f"{server.url}lab/tree/plan.ipynb?reset")
    # It opens by itself, and once.
    space = page.locator(".campushub-Space")
    row = space.locator("tr")
    row.filter(has_text="data/first.bin").wait_for()
    page.get_by_role("button", name="Close").click()
    # A save that does not fit.
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.type("# kept in the page ")
    page.keyboard.press("Control+S")
    dialog = page.locator(".jp-Dialog")
    dialog.filter(has_text="plan.ipynb was not saved: the disk, or your quota of it, is full.").wait_for()
    dialog.locator("button").last.click()
    assert json.loads((server.home / "plan.ipynb").read_text()) == NOTEBOOK
    assert sorted(path.name for path in server.home.rglob("*.ipynb")) == ["plan.ipynb"]
    # No room for the trash: it is final, and said so.
    big = row.filter(has_text="data/first.bin")
    big.get_by_role("button", name="Delete").click()
    space.get_by_text("data/first.bin cannot be moved into the trash").wait_for()
    assert (server.home / "data" / "first.bin").exists()
    big.get_by_role("button", name="Delete for good").click()
    big.wait_for(state="detached")
    assert not (server.home / "data" / "first.bin").exists()
    # With room it comes back.
    second = row.filter(has_text="second.bin")
    second.get_by_role("button", name="Delete").click()
    space.get_by_text("second.bin is in the trash").wait_for()
    assert not (server.home / "second.bin").exists()
    second.wait_for(state="detached")
    space.get_by_role("button", name="Undo").click()
    second.wait_for()
    assert (server.home / "second.bin").stat().st_size > 1 << 20
    second.get_by_role("button", name="Delete").click()
    trash = row.filter(has_text="Trash")
    trash.get_by_role("button", name="Empty").click()
    trash.get_by_role("button", name="Delete for good").click()
    trash.wait_for(state="detached")
    page.get_by_role("button", name="Close").click()
    # The text is there, and fits now.
    page.keyboard.press("Control+S")
    deadline = time.monotonic() + 20
    while "kept in the page" not in (server.home / "plan.ipynb").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "kept in the page" in (server.home / "plan.ipynb").read_text()
    home = page.locator("#campushub-usage [data-part=home]")
    home.and_(page.locator("[data-level='']")).wait_for()
    # A warning, early enough.
    (server.home / "third.bin").write_bytes(bytes(27 << 17))
    (server.home / "spare").touch()
    # After a change the server looks again at once.
    server.api("POST", "api/session/space", {"action": "delete", "path": "spare"})
    home.and_(page.locator("[data-level=warning]")).wait_for()
    page.locator(".Toastify__toast").get_by_text("The disk of your home directory is 8").wait_for()
    page.get_by_role("button", name="What takes the space").click()
    row.filter(has_text="third.bin").wait_for()
