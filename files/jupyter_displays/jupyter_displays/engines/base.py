"""What an engine has to say about itself."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from traitlets import List, Unicode
from traitlets.config import Configurable


@dataclass(frozen=True)
class Screen:
    """What an engine is told about the screen that it shall make."""

    directory: Path
    """The display's own directory, which no other user can enter."""
    width: int
    height: int
    dpi: int
    keyboard: Path | None = None
    """Where the X server finds the keyboard description of the session, in place of the system's."""

    @property
    def socket(self) -> Path:
        """Where the page's protocol is spoken."""
        return self.directory / "socket"

    @property
    def authority(self) -> Path:
        """The X authority file."""
        return self.directory / "xauthority"


class Engine(Configurable):  # type: ignore[misc]
    """A way to make a display: an X server, and what speaks the page's protocol on a unix socket.

    An engine only says which programs to start. The manager starts them, X first, watches and ends them.
    """

    name = ""
    protocol = ""
    version = ""
    """The version that is installed, once `find_version` has looked."""
    minimum: ClassVar[tuple[int, ...]] = ()
    """Older versions are refused."""
    tested: ClassVar[tuple[str, ...]] = ()
    """The versions that the tests of this package ran with: major and minor."""

    x_server = Unicode(help="The X server: its name on PATH, or its path.").tag(config=True)
    extra_x_arguments = List(Unicode(), help="More arguments for the X server.").tag(config=True)

    page_repeats_keys = False
    """Whether a key that is held is repeated by the page, and must not be by the X server."""

    version_option = "-version"

    def programs(self) -> list[str]:
        """Return what has to be installed."""
        return [self.x_server]

    def missing(self) -> str:
        """Return what has to be installed and is not, or nothing."""
        return ", ".join(program for program in self.programs() if not shutil.which(program))

    @property
    def is_tested(self) -> bool:
        """Whether the tests of this package ran with the version that is installed."""
        return ".".join(self.version.split(".")[:2]) in self.tested

    def refusal(self) -> str:
        """Return why no display can be made with what is installed, or nothing."""
        if missing := self.missing():
            return f"{missing} is not installed"
        if self.version and tuple(map(int, self.version.split("."))) < self.minimum:
            needed = ".".join(map(str, self.minimum))
            return f"{self.name} {self.version} is too old ({needed} or newer is needed)"
        return ""

    def find_version(self, cache: Path) -> None:
        """Ask the program for its version, which takes a moment, unless an earlier answer of it is in `cache`."""
        path = shutil.which(self.programs()[0]) or ""
        known = cache / f"version-{self.name}.json"
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            key = f"{path} {Path(path).resolve().stat().st_mtime_ns}"
            with contextlib.suppress(OSError, ValueError, KeyError):
                self.version = json.loads(known.read_text(encoding="utf-8"))[key]
                return
            answer = subprocess.run([path, self.version_option], capture_output=True, text=True, timeout=5, check=False)
            if found := re.search(r"\d+\.\d+(\.\d+)?", answer.stdout + answer.stderr):
                self.version = found[0]
                known.write_text(json.dumps({key: self.version}), encoding="utf-8")

    def x_command(self, screen: Screen) -> list[str]:
        """Return how to start the X server. The manager adds its number."""
        return [
            self.x_server,
            *("-auth", str(screen.authority)),
            # Neither a TCP port nor an abstract socket, which every user of the host could knock at.
            *("-nolisten", "tcp", "-nolisten", "local"),
            # Programs make memory that is shared with the X server open to every user (Xpra does, for the whole screen)
            # and leave it behind when they are killed.
            *("-extension", "MIT-SHM"),
            *("-dpi", str(screen.dpi)),
            *(("-xkbdir", str(screen.keyboard)) if screen.keyboard else ()),
            *("-noreset", "+extension", "RANDR", "+extension", "GLX", "+extension", "Composite"),
            *self.extra_x_arguments,
        ]

    def server_command(self, screen: Screen) -> list[str]:  # noqa: ARG002
        """Return how to start what speaks the protocol, if that is not the X server itself.

        It is started before the X server is there, whose number it reads from its standard input.
        """
        return []

    def size_stable(self, screen: Screen) -> bool:  # noqa: ARG002
        """Whether the engine, whose socket is there, leaves the screen's size alone from now on."""
        return True

    def last_words(self, lines: list[str]) -> str:
        """Return the line of the log of its server, or of the X server, that says why it ended."""
        return next((line.strip() for line in reversed(lines) if line.strip() not in {"", "(EE)"}), "")

    def server_environment(self, screen: Screen) -> dict[str, str]:  # noqa: ARG002
        """Return the environment variables that it needs in addition to the display's own."""
        return {}
