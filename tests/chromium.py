"""Chromium for tests: what it is started with, and in which network."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@contextmanager
def chromium(directory: Path, ports: list[int], *options: str, **launch: Any) -> Iterator[Browser]:
    """Start Chromium, by a script in a directory, in a network in which there are only these ports of this machine."""
    program = shutil.which("chromium")
    assert program, "'chromium' is missing: apt-get install chromium"
    wrapper = directory / "chromium"
    blackhole_network = Path(__file__).parent / "site" / "blackhole_network.py"
    command = [str(blackhole_network), ",".join(map(str, ports)), program]
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    wrapper.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=wrapper, args=[*OPTIONS, *options], **launch)
        yield browser
        browser.close()


def keep_picture(page: Page, name: str) -> None:
    """Keep a picture of a page for the manual, where CAMPUSHUB_SCREENSHOTS names the directory; small with pngquant."""
    if directory := os.environ.get("CAMPUSHUB_SCREENSHOTS"):
        path = Path(directory) / f"{name}.png"
        page.screenshot(path=path)
        if shutil.which("pngquant"):
            subprocess.run(["pngquant", "--force", "--skip-if-larger", "--ext", ".png", path], check=False)
