"""Starts Xpra for a screen that is still starting: what it loads is loaded by then.

Run by the Python that Xpra has, as `xpra_start.py XPRA ARGUMENT...`. The number of the screen comes as a line on the
standard input, and takes the place of an argument that is ":".
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

# Nothing that opens the screen, or that looks at Xpra's options while it is loaded.
_MODULES = (
    "gi.repository.GdkX11",
    "xpra.scripts.main",
    "xpra.scripts.server",
    "xpra.server.server_core",
    "xpra.server.mixins.encoding_server",
    "xpra.server.window.window_video_source",
    "xpra.server.source.windows_mixin",
)
# Without this a page that is quick finds a server of version 3 that knows bare pixels only, and for good.
_CODECS = ("enc_pillow", "enc_jpeg", "enc_webp")
# Seconds without a change that end a movement, and after which one counts.
_BREAK = 0.3
_MOVES = 1.0


def load() -> None:
    """Load what a server of version 3 needs; what it does not have it does without."""
    # All of it stays: there is nothing to be found by looking for what can be thrown away.
    gc.disable()
    with contextlib.suppress(Exception):
        gi = importlib.import_module("gi")
        for name in ("Gdk", "GdkX11", "Gtk"):
            gi.require_version(name, "3.0")
    for name in _MODULES:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    # Not Gtk itself, which looks for the screen while it is loaded.
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgtk-3.so.0")
    with contextlib.suppress(Exception):
        loader = importlib.import_module("xpra.codecs.loader")
        for codec in _CODECS:
            loader.load_codec(codec)
    gc.freeze()
    gc.enable()


def correct() -> None:
    """Have the desktops of version 3 count what changes, once it has gone on for a while.

    They count nothing, and so take nothing for something that moves: all is sent as what stands still, without loss,
    which is best for text that scrolls by, and takes the time and the bytes of many frames where something moves.
    """
    source = sys.modules.get("xpra.server.window.window_source")
    if source is None:
        return
    damage = source.WindowSource.damage

    def counted(self: Any, *place: Any, options: dict[str, Any] | None = None) -> None:
        x, y, w, h, *more = place
        now = time.monotonic()
        begun, last = getattr(self, "movement", (now, now))
        self.movement = (begun if now - last < _BREAK else now, now)
        damage(self, x, y, w, h, {**((more or [options])[0] or {}), "damage": now - self.movement[0] > _MOVES})

    source.WindowSource.damage = counted


def main() -> None:
    """Load, wait for the screen, and be Xpra."""
    xpra, *arguments = sys.argv[1:]
    # As if Xpra had been started itself: beside this file there is another one of its name.
    sys.path[0] = str(Path(xpra).parent)
    # It is not known what another version makes of this: it is only started.
    with contextlib.suppress(ImportError):
        if importlib.import_module("xpra").__version__.startswith("3."):
            load()
            correct()
    number = sys.stdin.readline().strip()
    if not number:
        sys.exit("there is no screen")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.environ["DISPLAY"] = f":{number}"
    sys.argv = [xpra, *(f":{number}" if word == ":" else word for word in arguments)]
    with Path(xpra).open("rb") as script:
        is_python = b"python" in script.readline(200)
    if not is_python:
        os.execv(xpra, sys.argv)  # noqa: S606
    runpy.run_path(xpra, run_name="__main__")


if __name__ == "__main__":
    main()
