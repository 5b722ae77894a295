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
# It keeps to the shortest time between pictures that the page asks for, and compresses all that is not very small.
_SETTINGS = {"XPRA_BATCH_ALWAYS": "1", "XPRA_MAX_PIXELS_PREFER_RGB": "64"}
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


def compare() -> None:
    """Have version 3 send of a picture only what differs from what the page has.

    Programs draw anew what stays as it is: a terminal all of its lines, and who shows a window all that is around it.
    """
    source = sys.modules.get("xpra.server.window.window_source")
    try:
        pictures = importlib.import_module("PIL.Image")
        differ = importlib.import_module("PIL.ImageChops").difference
    except ImportError:
        return
    if source is None:
        return
    make, cancel = source.WindowSource.make_data_packet, source.WindowSource.cancel_damage

    def news(self: Any, image: Any) -> tuple[int, int, int, int] | None:
        """Return where a picture differs, and note what the page will have."""
        x, y, w, h = image.get_target_x(), image.get_target_y(), image.get_width(), image.get_height()
        shown = getattr(self, "shown", None)
        if image.get_pixel_format() != "BGRX":
            self.shown = None
            return 0, 0, w, h
        picture = pictures.frombuffer("RGBX", (w, h), image.get_pixels(), "raw", "RGBX", image.get_rowstride(), 1)
        if shown is None or shown.size != self.window_dimensions:
            # Of parts alone it is not known what is around them.
            self.shown = picture.copy() if (w, h) == self.window_dimensions else None
            return 0, 0, w, h
        box: tuple[int, int, int, int] | None = differ(shown.crop((x, y, x + w, y + h)), picture).getbbox()
        if box:
            shown.paste(picture.crop(box), (x + box[0], y + box[1]))
        return box

    def make_of_news(self: Any, begun: float, grabbed: float, image: Any, coding: str, *more: Any) -> Any:
        options = more[1]
        box, part = news(self, image), image
        if not options.get("auto_refresh"):
            if not box:
                return None
            left, top, right, bottom = box
            w, h = right - left, bottom - top
            if (w, h) != (image.get_width(), image.get_height()):
                part = image.get_sub_image(left, top, w, h)
                quality = options.get("quality") or self._current_quality
                speed = options.get("speed") or self._current_speed
                coding = self.get_best_encoding(w, h, speed, quality, self.encoding)
                if coding == "png" and "webp" in self.common_encodings:
                    # Of text it makes a third, in half the time.
                    coding = "webp"
            # What scrolls is found among lines that are as long as they were before.
            if self.may_use_scrolling(image if 2 * h > image.get_height() else part, options):
                return None
        packet = None
        try:
            packet = make(self, begun, grabbed, part, coding, *more)
        finally:
            if part is not image:
                self.free_image_wrapper(part)
            if packet is None:
                self.shown = None
        return packet

    def cancel_and_forget(self: Any) -> None:
        self.shown = None
        cancel(self)

    source.WindowSource.make_data_packet = make_of_news
    source.WindowSource.cancel_damage = cancel_and_forget


def main() -> None:
    """Load, wait for the screen, and be Xpra."""
    xpra, *arguments = sys.argv[1:]
    # As if Xpra had been started itself: beside this file there is another one of its name.
    sys.path[0] = str(Path(xpra).parent)
    # It is not known what another version makes of this: it is only started.
    with contextlib.suppress(ImportError):
        if importlib.import_module("xpra").__version__.startswith("3."):
            os.environ |= _SETTINGS
            load()
            correct()
            compare()
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
