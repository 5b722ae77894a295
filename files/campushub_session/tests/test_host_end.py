"""The end of the host, with a stand-in for the answer of the service manager."""

from __future__ import annotations

import shutil
import signal

import pytest

from .test_browser import browser, open_notebook, page_of, write_notebook

__all__ = ["browser"]


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
def test_an_open_page_says_that_the_host_goes(browser, server):
    (server.home / "bin").mkdir()
    (server.home / "bin" / "systemctl").write_text("#!/bin/sh\necho stopping\n")
    (server.home / "bin" / "systemctl").chmod(0o755)
    write_notebook(server, "host.ipynb", "1")
    with page_of(browser, server) as page:
        open_notebook(page, server, "lab/tree", "host.ipynb")
        server.process.send_signal(signal.SIGTERM)
        page.locator(".campushub-End").get_by_text("its host is restarted").wait_for(timeout=3_000)
