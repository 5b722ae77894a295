"""Pictures of the user guide, in both languages, of what other tests assert; only where they are asked for."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess

import pytest
from chromium import chromium, keep_picture

from .test_browser import EAT, announce, open_notebook, page_of, wait, write_notebook
from .test_ends import hub
from .test_lost_server import says

__all__ = ["hub"]
pytestmark = [
    pytest.mark.skipif(not os.environ.get("CAMPUSHUB_SCREENSHOTS"), reason="CAMPUSHUB_SCREENSHOTS names no directory"),
    pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed"),
]
# How much memory a first run takes, and the next one.
TAKE = "import pathlib\nspectrum = b''\nspectrum = bytearray(b'x') * int(pathlib.Path('size.txt').read_text())"
FILES = {
    "simulation/run-2026-10/trajectory.h5": 12,
    "simulation/run-2026-09/trajectory.h5": 8,
    "Downloads/survey.tar.gz": 6,
    ".cache/pip/http/wheel": 5,
    "thesis/figures.bin": 4,
}


@pytest.fixture(params=["en", "ru"])
def language(request):
    return request.param


@pytest.fixture
def server(tmp_path, start_server):
    """With a home that has a disk of its own."""
    home, directory = tmp_path / "anna", tmp_path / "server"
    home.mkdir()
    directory.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "x", home], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with start_server(directory, home=home) as running:
            yield running
    finally:
        subprocess.run(["umount", "--lazy", home], check=True)


def fill(home):
    for name, megabytes in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(bytes(megabytes << 20))
    left = os.statvfs(home).f_bavail * os.statvfs(home).f_frsize
    (home / "thesis" / "scans.tar").write_bytes(bytes(max(0, left - 4096)))


def close_dialogs(page):
    while page.locator(".jp-Dialog").count():
        page.locator(".jp-Dialog button").last.click()
        page.wait_for_timeout(200)


def test_pictures_of_the_user_guide(language, server, hub, tmp_path):
    keep = {"en": "{}", "ru": "{}-ru"}[language].format
    locale = {"en": "en", "ru": "ru_RU"}[language]
    server.api("PUT", "lab/api/settings/@jupyterlab/translation-extension:plugin", {"raw": f'{{"locale": "{locale}"}}'})
    server.hear_from_hub(max_age=86400, age_left=43000)
    port = int(re.search(r":(\d+)/", server.url)[1])
    with chromium(tmp_path, [port, port + 1000]) as browser, page_of(browser, server) as page:
        page.set_viewport_size({"width": 1100, "height": 560})
        memory = page.locator("#campushub-usage [data-part=memory]")
        box = page.locator(".campushub-End")
        write_notebook(server, "Spectra.ipynb", TAKE)
        write_notebook(server, "Simulation.ipynb", EAT)
        open_notebook(page, server, "lab/tree", "Spectra.ipynb")
        used = server.api("GET", "api/session/usage")["memory"]["used"]
        for share, level in ((0.85, "warning"), (0.97, "critical")):
            (server.home / "size.txt").write_text(str(int(share * 500 * 2**20 - used)))
            page.locator(".jp-CodeCell .cm-content").first.click()
            page.keyboard.press("Control+Enter")
            memory.and_(page.locator(f"[data-level={level}]")).wait_for()
            if level == "warning":
                keep_picture(page, keep("bar"))
        page.locator("#campushub-usage button").click()
        page.locator(".campushub-Programs tbody tr").first.wait_for()
        keep_picture(page, keep("programs"))
        close_dialogs(page)
        for session in server.api("GET", "api/sessions"):
            server.api("DELETE", f"api/sessions/{session['id']}")
        texts = {"": "The storage is slow until 18:00.", "ru": "До 18:00 хранилище работает медленно."}
        announce(server, texts=texts)
        page.locator(".campushub-Announcement").get_by_text("18:00").wait_for()
        open_notebook(page, server, "lab/tree", "Spectra.ipynb")
        keep_picture(page, keep("announcement"))
        (server.home / "announcement.json").unlink()
        page.locator(".campushub-Announcement").wait_for(state="hidden")
        server.hear_from_hub(max_age=86400, age_left=590, extension=3600)
        box.locator("button.jp-mod-accept").wait_for()
        keep_picture(page, keep("end"))
        server.hear_from_hub(max_age=86400, age_left=43000)
        box.wait_for(state="hidden")
        for session in server.api("GET", "api/sessions"):
            server.api("DELETE", f"api/sessions/{session['id']}")
        open_notebook(page, server, "lab/tree", "Simulation.ipynb")
        page.keyboard.press("Control+Enter")
        page.locator(".jp-CodeCell .jp-RenderedText").get_by_text("Simulation.ipynb").wait_for()
        page.locator(".jp-Dialog").wait_for()
        close_dialogs(page)
        wait(lambda: server.api("GET", "api/session/usage")["memory"]["used"] < 400 << 20)
        keep_picture(page, keep("out-of-memory"))
        fill(server.home)
        # The server looks at the home when somebody works.
        server.api("POST", "api/session/activity")
        page.locator(".campushub-Space tr").first.wait_for()
        keep_picture(page, keep("space"))
        close_dialogs(page)
        hub.says = says("silent", "it does not answer")
        os.kill(server.process.pid, signal.SIGSTOP)
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.type("# ")
        box.locator("p").first.wait_for()
        keep_picture(page, keep("lost"))
        os.kill(server.process.pid, signal.SIGCONT)
