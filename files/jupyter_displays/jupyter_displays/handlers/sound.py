"""The stream of a display's sound: a WebSocket whose messages are packets of Opus.

It is opened as the display's own stream is, by who may use the server and by who has a link. Sound that is late is
worth nothing: what a page has not said to have is counted, and where that gets too much, packets are left out.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tornado import websocket

from .stream import SharedStreamHandler, StreamHandler

if TYPE_CHECKING:
    import asyncio

    from ..manager import Display

# The page sends an empty message for so many packets that it got,
_ACKNOWLEDGED = 10
# and so many, which are 0.8 s, may be on their way.
_ON_THEIR_WAY = 40


class _Listener:
    """What is different from the stream of the screen."""

    _display: Display | None = None

    async def connect(self: Any, display: Display | None, viewer: str) -> None:  # noqa: ARG002
        """Let a page that has just come listen."""
        self._display = display
        self._unknown = self._unsent = 0
        self.set_nodelay(True)
        if display is None:
            self.close(4404, "There is no such display.")
            return
        display.close_viewer[self] = self.close
        if not await display.ready():
            self.close(4410, display.reason[:120])
        elif display.sound is None:
            self.close(4404, "This display has no sound.")
        else:
            display.sound.add_listener(self)

    def on_packet(self: Any, packet: bytes) -> None:
        """Send a packet, unless too many are on their way."""
        if max(self._unknown, self._unsent) < _ON_THEIR_WAY:
            with contextlib.suppress(websocket.WebSocketClosedError):
                self.write_message(packet, binary=True).add_done_callback(self._sent)
                self._unknown += 1
                self._unsent += 1

    def _sent(self, sending: asyncio.Future[None]) -> None:
        self._unsent -= 1
        if not sending.cancelled():
            sending.exception()

    def on_closed(self: Any, reason: str) -> None:
        """Say that there is no more to hear."""
        self.close(4503, reason[:120])

    async def on_message(self, message: str | bytes) -> None:  # noqa: ARG002
        """Note that the page has got some packets."""
        self._unknown = max(0, self._unknown - _ACKNOWLEDGED)

    def on_close(self) -> None:
        """Listen no more."""
        if self._display:
            self._display.close_viewer.pop(self, None)
            if self._display.sound:
                self._display.sound.remove_listener(self)


class SoundHandler(_Listener, StreamHandler):
    """The sound of a display for who may use this server."""


class SharedSoundHandler(_Listener, SharedStreamHandler):
    """The sound of a display for who has a link."""
