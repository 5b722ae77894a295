"""The routes of displays: the REST API, pages, and the streams of screens and of sound."""

from __future__ import annotations

from typing import Any

from .api import (
    ClipboardHandler,
    DisplayHandler,
    DisplaysHandler,
    FileHandler,
    FilesHandler,
    KeymapHandler,
    ScreenHandler,
    SharedInputHandler,
    ShareHandler,
    SharesHandler,
    TextHandler,
)
from .pages import STATIC, PageHandler, SharedPageHandler, StaticHandler
from .sound import SharedSoundHandler, SoundHandler
from .stream import SharedStreamHandler, StreamHandler

_ID = r"([0-9]{1,5})"
_TOKEN = r"([A-Za-z0-9_-]{20,80})"  # noqa: S105


def handlers() -> list[tuple[Any, ...]]:
    """Return the handlers, without the server's base URL."""
    return [
        (r"/api/displays", DisplaysHandler),
        (rf"/api/displays/{_ID}", DisplayHandler),
        (rf"/api/displays/{_ID}/screen", ScreenHandler),
        (rf"/api/displays/{_ID}/stream", StreamHandler),
        (rf"/api/displays/{_ID}/sound", SoundHandler),
        (rf"/api/displays/{_ID}/keymap", KeymapHandler),
        (rf"/api/displays/{_ID}/text", TextHandler),
        (rf"/api/displays/{_ID}/clipboard", ClipboardHandler),
        (rf"/api/displays/{_ID}/files", FilesHandler),
        (rf"/api/displays/{_ID}/files/([^/]+)", FileHandler),
        (rf"/api/displays/{_ID}/shares", SharesHandler),
        (rf"/api/displays/{_ID}/shares/([0-9a-f]+)", ShareHandler),
        (rf"/displays/{_ID}", PageHandler),
        (rf"/displays/shared/{_TOKEN}", SharedPageHandler),
        (rf"/displays/shared/{_TOKEN}/stream", SharedStreamHandler),
        (rf"/displays/shared/{_TOKEN}/sound", SharedSoundHandler),
        (rf"/displays/shared/{_TOKEN}/(keymap|text|clipboard)", SharedInputHandler),
        (r"/displays/static/(.+)", StaticHandler, {"path": str(STATIC)}),
    ]
