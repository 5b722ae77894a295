"""What is there again after a server has ended and was started again, in JupyterLab, in Chromium."""

from __future__ import annotations

import os
import shutil

import pytest
from chromium import chromium

from .test_browser import page_of, wait, write_notebook

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
TABS = ".lm-DockPanel-tabBar .lm-TabBar-tabLabel"


def kept_tabs(home):
    return "".join(path.read_text() for path in (home / "config/lab/workspaces").glob("*"))


def test_the_same_tabs_are_there_after_the_next_start(start_server, tmp_path):
    """With the text that nobody had saved."""
    port = 18_800 + os.getpid() % 1000
    with chromium(tmp_path, [port]) as browser:
        with start_server(tmp_path) as server, page_of(browser, server) as page:
            for name in ("first.ipynb", "second.ipynb"):
                write_notebook(server, name, "1")
                page.goto(f"{server.url}lab/tree/{name}")
                page.locator(TABS).get_by_text(name).wait_for()
                # JupyterLab writes down its tabs a little later, and not any more when another page is opened.
                wait(lambda name=name: name in kept_tabs(tmp_path))
            page.locator(".jp-Notebook .jp-CodeCell .cm-content:visible").first.wait_for()
            assert "first.ipynb" in kept_tabs(tmp_path)
            page.locator(".jp-NotebookPanel:visible .jp-CodeCell .cm-content").first.click()
            page.keyboard.type("# changed ")
            server.hear_from_hub(ending={"reason": "max_age", "message": ""})
            wait(lambda: "# changed" in (tmp_path / "second.ipynb").read_text())
            wait(lambda: server.hear_from_hub()["saving"] == 0)
        with start_server(tmp_path) as server, page_of(browser, server) as page:
            page.goto(f"{server.url}lab")
            for name in ("first.ipynb", "second.ipynb"):
                page.locator(TABS).get_by_text(name).wait_for()
            page.locator(TABS).get_by_text("second.ipynb").click()
            page.locator(".jp-NotebookPanel:visible").get_by_text("# changed").wait_for()
