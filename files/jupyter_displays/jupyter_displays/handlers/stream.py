"""The stream between a page and a display: WebSocket frames on one side, the engine's unix socket on the other.

It is built on Jupyter's own classes of handlers, which authenticate WebSockets as they do pages, and it
holds back whichever side is quicker than the other can take.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import allow_unauthenticated, ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web, websocket

from ..manager import Display, now
from ..protocols import ClientMessageFilter, RefusedError, filter_for
from .base import HasManager

if TYPE_CHECKING:
    from collections.abc import Awaitable

_BLOCK = 1 << 18


class _Stream(HasManager, WebSocketMixin, websocket.WebSocketHandler, JupyterHandler):  # type: ignore[misc]
    """What streams of owners and of guests have in common."""

    mode = "control"
    share = ""

    def set_default_headers(self) -> None:
        """Leave the headers of pages out."""

    def write_error(self, status_code: int, **_facts: Any) -> None:
        """Refuse in a word: no browser shows a page for this."""
        self.finish(f"{status_code}\n")

    def get_compression_options(self) -> None:
        """Send pictures as they are: they are compressed."""

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Take the name that pages of VNC use, if it is offered."""
        return "binary" if "binary" in subprotocols else None

    async def connect(self, display: Display | None, viewer: str) -> None:
        """Connect a page that has just come."""
        self._writer: asyncio.StreamWriter | None = None
        self._filter: ClientMessageFilter | None = None
        self._display = display
        self._connected = asyncio.Event()
        self.set_nodelay(True)
        if display is None:
            self.close(4404, "There is no such display.")
            return
        about = {"name": viewer, "mode": self.mode, "since": now()}
        display.close_viewer[self] = self.close
        self._relaying = asyncio.ensure_future(self._relay(display, about))
        self._relaying.add_done_callback(lambda _task: self._connected.set())

    async def _relay(self, display: Display, about: dict[str, str]) -> None:
        if not await display.ready():
            self.close(4410, display.reason[:120])
            return
        connection = await self._connect_with_retry(display)
        if connection is None:
            self.close(4410, display.reason[:120] or "The display does not answer.")
            return
        reader, writer = connection
        self._writer = writer
        self._connected.set()
        self._filter = filter_for(display.engine.protocol, view_only=self.mode == "view")
        if self.ws_connection is None:
            writer.close()
            return
        display.viewers[self] = about
        self.manager.emit("changed", display)
        with contextlib.suppress(websocket.WebSocketClosedError, OSError):
            while data := await reader.read(_BLOCK):
                await self.write_message(data, binary=True)
        if display.state != "running":
            self.close(4410, display.reason[:120])
        else:
            # The page may come again; if the display has died, the reason follows in a moment.
            await asyncio.sleep(0.3)
            self.close(*((4410, display.reason[:120]) if display.state != "running" else (1001, "")))

    async def _connect_with_retry(self, display: Display) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Connect to the display's socket, which is there a moment before its server listens."""
        for _ in range(250):
            with contextlib.suppress(OSError):
                return await asyncio.open_unix_connection(display.screen.socket, limit=_BLOCK)
            if display.state != "running":
                break
            await asyncio.sleep(0.02)
        return None

    async def on_message(self, message: str | bytes) -> None:
        """Send on what the page says, if it may say that."""
        if self._display is None:
            return
        if self._filter is None:
            await self._connected.wait()
        if self._writer is None or self._filter is None:
            return
        try:
            data, used = self._filter.feed(message.encode() if isinstance(message, str) else message)
        except RefusedError as error:
            self.log.warning("A guest of display %s was sent away: %s", self._display.id, error)
            self.close(4403, "Only looking is allowed.")
            return
        if used:
            self.manager.record_activity(self._display)
        if self._filter.asks_for_size:
            self._filter.asks_for_size = False
            self.manager.refresh_size(self._display)
        self._writer.write(data)
        with contextlib.suppress(OSError):
            await self._writer.drain()

    def on_close(self) -> None:
        """Let go of the display."""
        display = getattr(self, "_display", None)
        if display is None:
            return
        display.close_viewer.pop(self, None)
        if self._writer is not None:
            self._writer.close()
        elif not self._relaying.done():
            self._relaying.cancel()
        if display.viewers.pop(self, None) and not display.terminated:
            self.manager.emit("changed", display)


class StreamHandler(_Stream):
    """The stream of a display for who may use this server."""

    auth_resource = "displays"

    @ws_authenticated
    async def get(self, display_id: str) -> None:
        """Open the stream."""
        allowed: bool | Awaitable[bool] = self.authorizer.is_authorized(
            self, self.current_user, "execute", self.auth_resource
        )
        if not await ensure_async(allowed):
            raise web.HTTPError(403)
        await super().get(display_id)

    async def open(self, display_id: str) -> None:
        """Connect the page with the display."""
        super().open()
        user = self.current_user
        await self.connect(self.manager.displays.get(display_id), user.display_name or user.username)


class SharedStreamHandler(_Stream):
    """The stream of a display for who has a link."""

    @allow_unauthenticated
    async def get(self, token: str) -> None:
        """Open the stream, if the link holds."""
        if self.manager.shares.by_token(token) is None:
            raise web.HTTPError(403, "This link does not hold any more.")
        await super().get(token)

    async def open(self, token: str) -> None:
        """Connect the page with the display."""
        super().open()
        share = self.manager.shares.by_token(token)
        if share is None:
            self.close(4403, "This link was taken back.")
            self._display: Any = None
            return
        self.mode, self.share = share.mode, share.id
        name = self.get_argument("name", "")[:60].strip() or "Guest"
        await self.connect(self.manager.displays.get(share.display), name)
