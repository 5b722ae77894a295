"""Starts Xpra for a screen that is still starting: what it loads is loaded by then.

Run by the Python that Xpra has, as `xpra_start.py XPRA ARGUMENT...`. The number of the screen comes as a line on the
standard input, and takes the place of an argument that is ":". Nothing of Xpra is changed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import runpy
import sys
from pathlib import Path

# Nothing that opens the screen, or looks at Xpra's options while it is loaded. These bring most others along.
_MODULES = {
    "xpra.scripts": "server",
    "xpra.clipboard": "timeout",
    "xpra.codecs": "checks image rgb_transform video jpeg.encoder pillow.encoder webp.encoder",
    "xpra.net": "lz4.lz4 protocol.factory rencodeplus.rencodeplus",
    "xpra.platform": "clipboard posix.sd_listen",
    "xpra.server": "auth glib_server",
    "xpra.server.source": "client_connection clientid cursor ping sharing",
    "xpra.server.subsystem": (
        "clipboard control daemon drm id info ping platform sessionfiles sharing splash version watcher window"
    ),
    "xpra.server.window": "batch_config model motion video_compress",
    "xpra.util": "meminfo",
    "xpra.x11": "selection.common uinput.setup vfb_util xkbhelper",
    "xpra.x11.bindings": "damage fixes loop randr shm test xkb",
    "xpra.x11.subsystem": "bell cursor display icc keyboard pointer x11init",
}


def load() -> list[str]:
    """Load the modules and return those that cannot be: another version may not have them."""
    os.environ["GDK_BACKEND"] = "x11"
    missing = []
    # All of it stays: there is nothing to be found by looking for what can be thrown away.
    gc.disable()
    for package, modules in _MODULES.items():
        for module in modules.split():
            try:
                importlib.import_module(f"{package}.{module}")
            except (ImportError, RuntimeError):
                missing.append(f"{package}.{module}")
    gc.freeze()
    gc.enable()
    return missing


def main() -> None:
    """Load, wait for the screen, and be Xpra."""
    xpra, *arguments = sys.argv[1:]
    # As if Xpra had been started itself: beside this file there is another one of its name.
    sys.path[0] = str(Path(xpra).parent)
    with Path(xpra).open("rb") as script:
        is_python = b"python" in script.readline(200)
    if is_python:
        load()
    number = sys.stdin.readline().strip()
    if not number:
        sys.exit("there is no screen")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.environ["DISPLAY"] = f":{number}"
    # Where root has none yet, Xpra takes another one that is everybody's.
    with contextlib.suppress(KeyError):
        Path(os.environ["XDG_RUNTIME_DIR"], "sessions", number).mkdir(mode=0o700, parents=True, exist_ok=True)
    sys.argv = [xpra, *(f":{number}" if word == ":" else word for word in arguments)]
    if not is_python:
        os.execv(xpra, sys.argv)  # noqa: S606
    runpy.run_path(xpra, run_name="__main__")


if __name__ == "__main__":
    main()
