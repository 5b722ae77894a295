"""Somebody in front of a browser, who logs in and works in JupyterLab."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from playwright.sync_api import expect

from tests.site.centre import RESULTS, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

# Two cores run hosts, servers and the browser at once.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)
# In the page, for the browser knows where the host is.
ASK = """
async ([path, method, token, data]) => {
  const body = data === null ? undefined : JSON.stringify(data);
  const headers = {"X-XSRFToken": token, "Content-Type": "application/json"};
  const send = () => fetch(path, {method, body, headers});
  // Chromium cuts connections when a network interface of this machine comes or goes, as of another test host.
  const answer = await send().catch(send);
  return [answer.status, await answer.text()];
}
"""
PICTURES = Path(os.environ.get("CAMPUSHUB_SCREENSHOTS") or RESULTS)
# Prints until it is told to end, so that a test need not guess how long the repair takes.
LOOP = """
import pathlib, time
end = pathlib.Path.home() / "end"
end.unlink(missing_ok=True)
line = 0
while not end.exists():
    line += 1
    print("line", line, flush=True)
    time.sleep(0.2)
print("finished after", line)
""".strip()


class Person:
    """A user of one centre with a browser window of their own, which shares no cookies with any other."""

    def __init__(
        self, browser: Browser, url: str, user: str, password: str, *, locale: str = "en-US", phone: bool = False
    ) -> None:
        self.user = user
        self.password = password
        size = (390, 760) if phone else (1200, 750)
        self.context = browser.new_context(
            base_url=url,
            ignore_https_errors=True,
            locale=locale,
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=2 if phone else 1,
            reduced_motion="reduce",
        )
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        # What went wrong behind the page.
        self.problems: list[str] = []
        self.context.on("requestfailed", lambda request: self.problems.append(f"{request.failure} {request.url}"))
        self.context.on("weberror", lambda error: self.problems.append(f"{error.error}"))

    @property
    def lab_path(self) -> str:
        """Path of the user's JupyterLab."""
        return f"/user/{self.user}/lab"

    def see_login(self, after: str = "") -> None:
        """Open the login page; what comes after it is the server's first page, if not said."""
        self.page.goto(f"/hub/login?next={quote(after, safe='')}" if after else "/hub/login")
        expect(self.page.locator("#password_input")).to_be_visible()

    def log_in(self, password: str = "") -> None:
        """Fill in the login form and send it."""
        self.page.locator("#username_input").fill(self.user)
        self.page.locator("#password_input").fill(password or self.password)
        self.page.locator("#login_submit").click()

    def start_lab(self) -> None:
        """Log in and wait until JupyterLab is there to work with, without what was open in it the last time."""
        lab = quote(f"{self.lab_path}?reset", safe="")
        self.see_login(after=f"/hub/spawn/{self.user}?next={lab}")
        self.log_in()
        self.see_launcher()
        self.end_forgotten_kernels()

    def open_lab(self) -> None:
        """Open JupyterLab again, without what was open in it."""
        self.page.goto(f"{self.lab_path}?reset")
        self.see_launcher()

    def see_launcher(self) -> None:
        """Wait for the launcher."""
        expect(self.page.locator(".jp-LauncherCard[title^='Python 3']").first).to_be_visible()

    def open_notebook(self) -> Locator:
        """Open a new notebook from the launcher and return it when its kernel is ready."""
        self.page.locator(".jp-LauncherCard[data-category='Notebook'][title^='Python 3']").click()
        expect(self.notebook).to_be_visible()
        # Lab shows an idle kernel before it has one, and exchanges it if it is slow to come; what it is asked to run in
        # that first second may get lost. The server knows better.
        wait_until(self._has_kernel, "the new notebook is connected to a kernel that has started")
        self.wait_idle()
        return self.notebook

    def _has_kernel(self) -> bool:
        """Return whether the page is connected to one kernel, which has nothing to do."""
        _, sessions = self.ask("api/sessions")
        states = [session["kernel"]["execution_state"] for session in sessions if session["kernel"]["connections"]]
        return states == ["idle"]

    def end_forgotten_kernels(self) -> None:
        """End the kernels that no page shows any more; they would take the memory of what is to come."""
        for kernel in self.ask("api/kernels")[1]:
            if not kernel["connections"]:
                self.ask(f"api/kernels/{kernel['id']}", "DELETE")

    def ask(self, path: str, method: str = "GET", data: Any = None) -> tuple[int, Any]:
        """Call an interface of the user's own server as its pages do; return status and answer."""
        path = f"/user/{self.user}/{path}"
        tokens = [c["value"] for c in self.context.cookies() if c["name"] == "_xsrf" and c["path"] in path]
        status, text = self.page.evaluate(ASK, [path, method, tokens[-1] if tokens else "", data])
        return status, json.loads(text) if status < 300 and text else text

    @property
    def notebook(self) -> Locator:
        """The notebook in front."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def wait_idle(self) -> None:
        """Wait until the kernel of the notebook in front has nothing to do."""
        expect(self.notebook.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle")

    def execute(self, code: str) -> Locator:
        """Type code into the last cell and run it; return that cell, whose output may still be to come."""
        cells = self.notebook.locator(".jp-CodeCell")
        cell = cells.nth(cells.count() - 1)
        cell.locator(".cm-content").click()
        # As it stands: typing would get brackets and indentation from the editor on top.
        self.page.keyboard.insert_text(code)
        before = cells.count()
        self.page.keyboard.press("Shift+Enter")
        expect(cells).to_have_count(before + 1)
        return cell

    def save(self, name: str = "") -> None:
        """Save the notebook in front for the first time, under another name if given."""
        self.page.keyboard.press("Control+s")
        dialog = self.page.locator(".jp-Dialog")
        if name:
            dialog.locator("input[type=text], input.jp-mod-styled").first.fill(name)
        dialog.get_by_role("button", name="Rename and Save").click()
        expect(dialog).to_have_count(0)
        expect(self.page.locator("#jp-main-dock-panel .lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)

    def open_terminal(self) -> Locator:
        """Open a terminal from the launcher and return its screen, as it is read out to people who do not see it."""
        settings = {"raw": '{"screenReaderMode": true}'}
        status, _ = self.ask("lab/api/settings/@jupyterlab/terminal-extension:plugin", "PUT", settings)
        assert status == 204
        self.open_lab()
        self.page.locator(".jp-LauncherCard[data-category='Other'][title^='Start a new terminal']").click()
        terminal = self.page.locator(".jp-Terminal")
        expect(terminal).to_be_visible()
        screen = terminal.locator(".xterm-accessibility-tree")
        expect(screen).to_contain_text("$")
        terminal.locator(".xterm-helper-textarea").focus()
        return screen

    def picture(self, name: str) -> None:
        """Keep a picture of the page."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")

    def leave(self) -> None:
        """Close the window."""
        self.context.close()


def outputs(cell: Locator) -> Locator:
    """Return what a cell has printed or shown."""
    return cell.locator(".jp-OutputArea-output")


def lines(cell: Locator) -> list[int]:
    """Return the numbers of the lines that the loop has printed so far, as the page shows them."""
    words = "".join(outputs(cell).all_inner_texts()).split()
    return [int(number) for word, number in pairwise(words) if word == "line"]


def keeps_printing(cell: Locator, after: str) -> None:
    """Wait until lines come in that were not there before."""
    seen = len(lines(cell))
    # Lab may wait half a minute before it tries again to reach a server that did not answer.
    wait_until(lambda: len(lines(cell)) > seen + 2, f"new lines in the running cell after {after}", seconds=60)
