"""A server that hangs, and one that is killed: the open page says what the hub knows, in Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from .test_browser import browser, open_notebook, page_of, write_notebook
from .test_ends import change, hub

__all__ = ["browser", "hub"]
pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")


def says(reason, message="", final=False):
    return lambda _: (200, {"reason": reason, "message": message, "final": final})


def asked(hub):
    return [path for method, path, _ in hub.asked if method == "GET"]


def test_an_open_page_says_why_its_server_is_silent_or_gone(browser, server, hub):
    write_notebook(server, "lost.ipynb", "1")
    with page_of(browser, server) as page:
        open_notebook(page, server, "lab/tree", "lost.ipynb")
        box = page.locator(".campushub-End")
        hub.says = says("silent", "it does not answer")
        os.kill(server.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        change(page)
        box.get_by_text("your home directory cannot be used: it does not answer").wait_for()
        # The page asks the server every ten seconds, and three later the hub.
        assert time.monotonic() - began < 15
        assert box.get_by_text("leave it open").is_visible()
        assert asked(hub)[0] == "/hub/server-state/u//0"
        # It goes away by itself when the server answers again, and hides nothing else.
        os.kill(server.process.pid, signal.SIGCONT)
        hub.says = says("")
        box.wait_for(state="hidden")
        hub.says = says("ended")
        server.process.kill()
        # The page asks for kernels and files by itself.
        box.get_by_text("Your server ended by itself.").wait_for()
        hub.says = says("ended", "<b>Out</b> of luck", final=True)
        box.get_by_text("Its last words were: <b>Out</b> of luck").wait_for()
        known = len(asked(hub))
        page.wait_for_timeout(1_500)
        assert len(asked(hub)) == known
