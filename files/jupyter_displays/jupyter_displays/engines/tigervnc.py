"""TigerVNC: the X server itself speaks RFB."""

from __future__ import annotations

from traitlets import default

from .base import Engine, Screen


class TigerVNCEngine(Engine):
    """Xtigervnc on a unix socket."""

    name = "tigervnc"
    protocol = "rfb"
    tested = ("1.12", "1.15")

    @default("x_server")
    def _default_x_server(self) -> str:
        return "Xtigervnc"

    def x_command(self, screen: Screen) -> list[str]:
        """Return how to start Xtigervnc.

        It asks for no password, because nobody else can enter the directory that the socket is in.
        """
        return [
            *super().x_command(screen),
            *("-geometry", f"{screen.width}x{screen.height}", "-depth", "24"),
            *("-rfbunixpath", str(screen.socket), "-rfbunixmode", "0600", "-rfbport", "-1"),
            *("-SecurityTypes", "None", "-AlwaysShared", "-AcceptSetDesktopSize", "-desktop", "Display"),
            # The first change after a pause is held back for half of the time of a frame: 6 ms of a key, not 8.
            *("-FrameRate", "75"),
            # A text of more than the default, 256 kB, would be dropped with what the clipboard had before.
            *("-MaxCutText", str(20 * 2**20)),
            # A page is told of what is copied, not of each word that is marked.
            "-SendPrimary=0",
        ]
