"""Somebody in front of a browser, who logs in and works in JupyterLab."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.site.centre import PASSWORDS, RESULTS, Host

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

# Two cores run hosts, servers and the browser at once.
PATIENCE = 60_000
PICTURES = Path(os.environ.get("CAMPUSHUB_SCREENSHOTS") or RESULTS)


class Person:
    """A user of one host with a browser window of their own, which shares no cookies with any other."""

    def __init__(self, browser: Browser, host: Host, user: str, locale: str = "en-US", phone: bool = False) -> None:
        self.host = host
        self.user = user
        size = (390, 760) if phone else (1200, 750)
        self.context = browser.new_context(
            base_url=host.url,
            ignore_https_errors=True,
            locale=locale,
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=2 if phone else 1,
            reduced_motion="reduce",
        )
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()

    @property
    def lab_path(self) -> str:
        """Path of the user's JupyterLab."""
        return f"/user/{self.user}/lab"

    def see_login(self) -> None:
        """Open the login page."""
        self.page.goto("/hub/login")
        expect(self.page.locator("#password_input")).to_be_visible()

    def log_in(self, password: str = "") -> None:
        """Fill in the login form and send it."""
        self.page.locator("#username_input").fill(self.user)
        self.page.locator("#password_input").fill(password or PASSWORDS[self.user])
        self.page.locator("#login_submit").click()

    def start_lab(self) -> None:
        """Log in and wait until JupyterLab is there to work with."""
        self.see_login()
        self.log_in()
        self.page.wait_for_url(f"**{self.lab_path}**")
        self.see_launcher()

    def open_lab(self) -> None:
        """Open JupyterLab anew, without what was open in it."""
        self.page.goto(f"{self.lab_path}?reset")
        self.see_launcher()

    def see_launcher(self) -> None:
        """Wait for the launcher."""
        expect(self.page.locator(".jp-LauncherCard[title^='Python 3']").first).to_be_visible()

    def open_notebook(self) -> Locator:
        """Open a new notebook from the launcher and return it when its kernel is ready."""
        self.page.locator(".jp-LauncherCard[data-category='Notebook'][title^='Python 3']").click()
        notebook = self.notebook
        expect(notebook).to_be_visible()
        self.wait_idle()
        return notebook

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
        self.page.keyboard.press("Shift+Enter")
        return cell

    def save(self) -> None:
        """Save the notebook in front."""
        self.page.keyboard.press("Control+s")
        expect(self.page.locator("#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current")).not_to_have_class("jp-mod-dirty")

    def open_terminal(self) -> Locator:
        """Open a terminal from the launcher and return its screen, as it is read out to people who do not see it."""
        self.page.request.put(
            f"/user/{self.user}/lab/api/settings/@jupyterlab/terminal-extension:plugin",
            data={"raw": '{"screenReaderMode": true}'},
            headers={"X-XSRFToken": self.cookie("_xsrf", f"/user/{self.user}/")},
        )
        self.open_lab()
        self.page.locator(".jp-LauncherCard[data-category='Other'][title^='Start a new terminal']").click()
        terminal = self.page.locator(".jp-Terminal")
        expect(terminal).to_be_visible()
        screen = terminal.locator(".xterm-accessibility-tree")
        expect(screen).to_contain_text("$")
        terminal.locator(".xterm-helper-textarea").focus()
        return screen

    def cookie(self, name: str, path: str) -> str:
        """Return the value of a cookie."""
        found = [c for c in self.context.cookies() if c["name"] == name and c["path"] == path]
        assert found, f"{self.user} has no cookie {name} for {path}: {self.context.cookies()}"
        return found[0]["value"]

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
