"""Xpra: a program of its own watches the X server and speaks its protocol."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from pathlib import Path

from traitlets import Dict, Integer, Unicode, default

from .base import Engine, Screen

# What starts quickest and leaves nothing open. A file, because it takes options that a version does not know.
# Not `mmap = no`: from 6.5.3 on, each connection then ends with an error of the server's.
_OPTIONS = {
    "audio": "no",
    "av-sync": "no",
    "bandwidth-detection": "no",
    "bell": "yes",
    "clipboard": "yes",
    "commands": "no",
    # The page shows pictures, not video: without it the server starts sooner and has a quarter less memory.
    "csc-modules": "none",
    "dbus": "no",
    "dbus-control": "no",
    "dbus-launch": "",
    "encodings": "webp,jpeg,png,rgb,scroll",
    "exit-with-children": "no",
    "exit-with-client": "no",
    "file-transfer": "no",
    "gstreamer": "no",
    "html": "off",
    "http": "no",
    "http-scripts": "off",
    "input-method": "none",
    "lock": "no",
    "mdns": "no",
    "microphone": "off",
    "notifications": "no",
    "open-files": "no",
    "open-url": "no",
    "opengl": "no",
    "packet-encoders": "rencodeplus",
    "printing": "no",
    "proxy-start-sessions": "no",
    "pulseaudio": "no",
    "remote-logging": "no",
    # The screen has the size that the page's server gives it.
    "resize-display": "no:none",
    "rfb-upgrade": "0",
    "sharing": "yes",
    "speaker": "off",
    "splash": "no",
    "ssh": "no",
    "ssh-upgrade": "no",
    "ssl": "off",
    "start-new-commands": "no",
    "start-via-proxy": "no",
    "system-tray": "no",
    "systemd-run": "no",
    "video": "no",
    "video-decoders": "none",
    "video-encoders": "none",
    "webcam": "no",
    "websocket-upgrade": "no",
    "xsettings": "no",
}
_ENVIRONMENT = {
    # Milliseconds that a program on a busy host has to say what it has copied. Without an answer no page is told.
    "XPRA_CLIPBOARD_CONVERT_TIMEOUT": "5000",
    "XPRA_SYSTEM_CONF_DIRS": "/nonexistent",
    "XPRA_EXPOSE_IBUS_LAYOUTS": "0",
    "XPRA_IBUS": "0",
    # Keycodes that the keyboard of the display leaves free stay free.
    "XPRA_MAP_MISSING_MODIFIERS": "0",
    "XPRA_MODIFY_GSETTINGS": "0",
    "XPRA_NO_ROOT_WARNING": "1",
    "XPRA_POWER_EVENTS": "0",
    "XPRA_SUSPEND_RESUME": "0",
}

_TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ?")
_CLEARING_AWAY = re.compile(
    "^(removing unix domain socket|removed session directory|.* server is (terminating|exiting))"
)


class XpraEngine(Engine):
    """Xpra's desktop mode on a virtual X server."""

    name = "xpra"
    protocol = "xpra"
    # The first one that has the packet `keyboard-config`, and new names for most others.
    minimum = (6, 5)
    tested = ("6.5",)
    version_option = "--version"
    page_repeats_keys = True

    xpra = Unicode("xpra", help="The Xpra server: its name on PATH, or its path.").tag(config=True)
    options = Dict(help="Options of Xpra (lines of an xpra.conf) in addition to or in place of this package's.").tag(
        config=True
    )
    largest_width = Integer(
        2560, help="A screen grows to this width. The X server keeps memory for all of it: 4 bytes a pixel."
    ).tag(config=True)
    largest_height = Integer(1600, help="A screen grows to this height.").tag(config=True)

    @default("x_server")
    def _default_x_server(self) -> str:
        return "Xvfb"

    def programs(self) -> list[str]:
        """Return what has to be installed."""
        return [self.xpra, self.x_server]

    def x_command(self, screen: Screen) -> list[str]:
        """Return how to start the virtual X server."""
        width, height = max(screen.width, self.largest_width), max(screen.height, self.largest_height)
        return [*super().x_command(screen), "-screen", "0", f"{width}x{height}x24"]

    def server_command(self, screen: Screen) -> list[str]:
        """Return how to start Xpra, whose options are in a file beside its socket."""
        options = _OPTIONS | {
            "bind": str(screen.socket),
            "dpi": str(screen.dpi),
            "socket-dir": str(screen.directory),
            "socket-dirs": str(screen.directory),
            "log-dir": str(screen.directory),
            "sessions-dir": str(screen.directory / "sessions"),
        }
        options |= self.options
        lines = [f"{name} = {value}" for name, value in options.items()]
        (screen.directory / "xpra.conf").write_text("\n".join([*lines, ""]), encoding="utf-8")
        arguments = ["start-desktop", ":", "--daemon=no", "--use-display=yes"]
        return [*self._python(), str(Path(__file__).with_name("xpra_start.py")), self._path, *arguments]

    @property
    def _path(self) -> str:
        return str(shutil.which(self.xpra) or self.xpra)

    def _python(self) -> list[str]:
        """Return the Python that Xpra is a script of."""
        with contextlib.suppress(OSError), Path(self._path).open("rb") as script:
            first = script.readline(200).decode(errors="replace")
            if first.startswith("#!") and "python" in first:
                return first[2:].split()
        return [sys.executable]

    def size_stable(self, screen: Screen) -> bool:
        """Whether Xpra is through with its start, at the end of which it sets the screen's size once more."""
        with contextlib.suppress(OSError):
            return b"is ready" in (screen.directory / "server.log").read_bytes()
        return False

    def last_words(self, lines: list[str]) -> str:
        """Return the last line that says more than what Xpra clears away in the end, without its time."""
        lines = [_TIME.sub("", line) for line in lines]
        return super().last_words([line for line in lines if not _CLEARING_AWAY.search(line)])

    def server_environment(self, screen: Screen) -> dict[str, str]:
        """Return what keeps the system's and the user's settings of Xpra out, and its files in the display's directory.

        Without a runtime directory it would have them in one of everybody's.
        """
        directory = str(screen.directory)
        return {**_ENVIRONMENT, "XPRA_USER_CONF_DIRS": directory, "XDG_RUNTIME_DIR": directory, "TMPDIR": directory}
