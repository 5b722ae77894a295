"""The end of the host, with a stand-in for the answer of the service manager."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from campushub_session import ends

from .test_browser import browser, open_notebook, page_of, write_notebook
from .test_ends import change

__all__ = ["browser"]


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
def test_an_open_page_says_that_the_host_goes_and_saves(browser, server):
    (server.home / "bin").mkdir()
    (server.home / "bin" / "systemctl").write_text("#!/bin/sh\necho stopping\n")
    (server.home / "bin" / "systemctl").chmod(0o755)
    write_notebook(server, "host.ipynb", "1")
    with page_of(browser, server) as page:
        open_notebook(page, server, "lab/tree", "host.ipynb")
        change(page)
        server.process.send_signal(signal.SIGTERM)
        page.locator(".campushub-End").get_by_text("its host is restarted").wait_for(timeout=3_000)
        while server.process.poll() is None:
            page.wait_for_timeout(100)
    assert "# changed" in (server.home / "host.ipynb").read_text()


def test_a_service_manager_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    began = time.monotonic()
    # In this thread the browser's own loop runs.
    with ThreadPoolExecutor() as pool:
        assert not pool.submit(asyncio.run, ends._host_stops()).result()
    assert time.monotonic() - began < 8
