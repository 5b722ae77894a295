"""The pages of displays that fill a browser tab, and their scripts."""

from __future__ import annotations

import html
import json
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from ..translation import gettext_noop
from .base import HasManager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..manager import Display

STATIC = Path(__file__).parents[1] / "static"


class _Page(HasManager, JupyterHandler):  # type: ignore[misc]
    """A page that fills a browser tab with a display."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what is wrong."""
        error = kwargs.get("exc_info", (None, None))[1]
        message = getattr(error, "log_message", None) or f"Error {status_code}"
        self.show("Display", problem=message)

    def show(self, title: str, *, scripts: Sequence[str] = (), **config: Any) -> None:
        """Send the page, whose script is built with the package and knows the language of the browser; add scripts."""
        base = self.manager.base_url
        config |= {"baseUrl": base, "staticUrl": url_path_join(base, "displays/static/")}
        data = json.dumps(config).replace("<", "\\u003c")
        static = html.escape(config["staticUrl"])
        further = "".join(
            f'<script type="module" src="{html.escape(url_path_join(base, script))}"></script>\n' for script in scripts
        )
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.finish(
            f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="stylesheet" href="{static}page.css">
<script id="display-config" type="application/json">{data}</script>
<script type="module" src="{static}page.js"></script>
{further}</head>
<body><noscript>{html.escape(config.get("problem", ""))}</noscript></body>
</html>
"""
        )


class PageHandler(_Page):
    """The page of a display."""

    @web.authenticated
    async def get(self, display_id: str) -> None:
        """Send it; a display that is not there any more is said so by the page."""
        await self.manager.started.wait()
        await self.manager.prepare()
        display = self.manager.displays.get(display_id)
        self.show_own(display_id, display)

    def show_own(self, display_id: str, display: Display | None) -> None:
        """Send the page of its owner, with a way back to the hub where there is nothing else of the user's."""
        # The cookie by which the page's requests are told from those of other sites.
        _ = self.xsrf_token
        model = display.model(self.manager.base_url) if display else None
        home = self.settings.get("hub_home", "")
        # Of other extensions, by their addresses below the server's. Whoever has a link gets none of them.
        scripts = self.settings.get("display_page_scripts", [])
        title = display.title if display else "Display"
        self.show(title, scripts=scripts, id=display_id, display=model, mode="control", home=home)


class SharedPageHandler(_Page):
    """The page of a display for who has a link."""

    @allow_unauthenticated
    async def get(self, token: str) -> None:
        """Send it, if the link holds."""
        await self.manager.started.wait()
        share = self.manager.shares.by_token(token)
        if share is None:
            raise web.HTTPError(404, gettext_noop("The link no longer works."))
        display = self.manager.get(share.display)
        facts = display.model(self.manager.base_url) | {"viewers": [], "url": ""}
        self.show(display.title, id=display.id, display=facts, mode=share.mode, token=token)


class StaticHandler(web.StaticFileHandler):  # type: ignore[misc]
    """The scripts of the pages, which those with a link load too."""

    @allow_unauthenticated
    async def get(self, path: str, include_body: bool = True) -> None:
        """Send a file."""
        await super().get(path, include_body)

    @allow_unauthenticated
    async def head(self, path: str) -> None:
        """Send what is known of a file."""
        await super().head(path)

    def set_extra_headers(self, path: str) -> None:
        """Have the browser ask whether a file has changed."""
        self.set_header("Cache-Control", "no-cache")
        kind = mimetypes.guess_type(path)[0]
        if kind is None:
            self.set_header("Content-Type", "application/octet-stream")
