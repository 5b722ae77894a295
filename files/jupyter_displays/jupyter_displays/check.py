"""Checks an engine by using it: starts one display, opens its stream as a page does, and ends it.

    python -m jupyter_displays.check --engine xpra

prints what was found as one JSON object, and exits with 0 if the engine works, and with 1 if not. It needs no Jupyter
server, and has everything that it writes, homes of programs too, in a directory of its own that is gone in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado import web

from .engines import ENGINES
from .manager import DISPLAY_DIR_VARIABLE, Display, DisplayManager
from .processes import with_variable
from .protocols import Decoder, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

_WIDTH, _HEIGHT = 640, 480
_START_TIMEOUT = 60.0
_STREAM_TIMEOUT = 20.0
_RENCODEPLUS = 0x10
# What the page asks for, but for compression, and for pictures in other forms than the simplest.
_HELLO = {
    "version": "6.5",
    "client_type": "check",
    "share": True,
    "rencodeplus": True,
    "compression_level": 0,
    "chunks": False,
    "ping": True,
    "ping-echo-sourceid": True,
    "windows": True,
    "window": {"enabled": True},
    "display": {"refresh-rate": 60},
    "encoding": {"options": ["rgb24", "rgb32"], "core": ["rgb24", "rgb32"], "rgb_formats": ["RGBX", "RGB"]},
    "encodings": ["rgb24", "rgb32"],
    "keyboard": True,
    "pointer": {"enabled": True},
}


class CheckError(Exception):
    """The engine does not do what a page needs."""


async def _xpra_packet(reader: asyncio.StreamReader, *names: str) -> list[Any]:
    while True:
        magic, flags, level, index, size = struct.unpack(">cBBBI", await reader.readexactly(8))
        body = await reader.readexactly(size)
        if magic != b"P" or not flags & _RENCODEPLUS:
            message = "the server does not speak the protocol of Xpra 6"
            raise CheckError(message)
        if level or index:
            continue
        packet: list[Any] = Decoder(body).read()
        if packet[0] in names:
            return packet
        if packet[0] == "disconnect":
            message = f"the server ended the connection: {', '.join(map(str, packet[1:]))}"
            raise CheckError(message)


async def _xpra(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """See the first picture of Xpra, and have it answer a ping."""

    def send(*packet: Any) -> None:
        body = encode(list(packet))
        writer.write(struct.pack(">cBBBI", b"P", _RENCODEPLUS, 0, 0, len(body)) + body)

    send("hello", _HELLO | {"uuid": secrets.token_hex(16)})
    await _xpra_packet(reader, "hello")
    send("keyboard-config", {"layout": "us", "raw": True, "layout_groups": True, "sync": True})
    window = (await _xpra_packet(reader, "new-window"))[1]
    send("window-map", window, 0, 0, _WIDTH, _HEIGHT)
    _, _, *place = (await _xpra_packet(reader, "draw"))[:6]
    if place != [0, 0, _WIDTH, _HEIGHT]:
        message = f"the first picture is {place}, and not the whole screen"
        raise CheckError(message)
    send("keyboard-event", window, "", True, {"keycode": 38, "modifiers": []})
    send("keyboard-event", window, "", False, {"keycode": 38, "modifiers": []})
    send("pointer-motion", -1, 0, window, [10, 10], {"modifiers": []})
    send("ping", 1)
    await _xpra_packet(reader, "ping_echo")


async def _rfb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """See the first picture of VNC."""
    await reader.readexactly(12)
    writer.write(b"RFB 003.008\n")
    kinds = await reader.readexactly((await reader.readexactly(1))[0])
    if b"\1" not in kinds:
        message = "the server wants a password"
        raise CheckError(message)
    writer.write(b"\1")
    await reader.readexactly(4)
    writer.write(b"\1")
    facts = await reader.readexactly(24)
    await reader.readexactly(struct.unpack_from(">I", facts, 20)[0])
    size = struct.unpack_from(">HH", facts)
    if size != (_WIDTH, _HEIGHT):
        message = f"the screen is {size}, and not {(_WIDTH, _HEIGHT)}"
        raise CheckError(message)
    writer.write(struct.pack(">BBHHHH", 3, 0, 0, 0, *size))
    await reader.readexactly(4)


PROBES: dict[str, Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]] = {
    "rfb": _rfb,
    "xpra": _xpra,
}


async def _connect(display: Display) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the display's socket, which is there a moment before its server listens."""
    for _ in range(250):
        with contextlib.suppress(OSError):
            return await asyncio.open_unix_connection(display.screen.socket)
        if display.state != "running":
            break
        await asyncio.sleep(0.02)
    raise CheckError(display.reason or "the display does not answer")


async def _use(manager: DisplayManager) -> None:
    await manager.prepare()
    display = manager.create("check", width=_WIDTH, height=_HEIGHT)
    try:
        runs = await asyncio.wait_for(display.ready(), _START_TIMEOUT + _STREAM_TIMEOUT)
    except asyncio.TimeoutError:
        message = "the display did not start"
        raise CheckError(message) from None
    if not runs:
        raise CheckError(display.reason)
    reader, writer = await _connect(display)
    try:
        await asyncio.wait_for(PROBES[display.engine.protocol](reader, writer), _STREAM_TIMEOUT)
    except asyncio.TimeoutError:
        message = f"no picture came within {_STREAM_TIMEOUT:g} s"
        raise CheckError(message) from None
    except (OSError, EOFError) as error:
        # If it has died, the reason follows in a moment.
        await asyncio.sleep(0.3)
        message = display.reason or f"the stream ended: {error or type(error).__name__}"
        raise CheckError(message) from error
    finally:
        writer.close()


async def _check(name: str, directory: Path) -> dict[str, Any]:
    begun = time.monotonic()
    manager = DisplayManager(
        engine=name,
        applications={"check": {"title": "Check", "command": ["sleep", "600"]}},
        runtime_directory=str(directory / "displays"),
        sound=False,
        start_timeout=_START_TIMEOUT,
    )
    engine = manager.engines[name]
    reason = ""
    try:
        await _use(manager)
    except web.HTTPError as error:
        reason = str(error.log_message)
    except (CheckError, OSError) as error:
        reason = str(error)
    seconds = time.monotonic() - begun
    left = list(manager.displays.values())
    await manager.stop()
    if not reason and any(with_variable(DISPLAY_DIR_VARIABLE, str(display.directory)) for display in left):
        reason = "processes are left that did not end"
    return {
        "engine": name,
        "version": engine.version,
        "tested": engine.is_tested,
        "ok": not reason,
        "reason": reason,
        "seconds": round(seconds, 2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print what was found, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jupyter_displays.check", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--engine", choices=list(ENGINES), required=True)
    engine = parser.parse_args(arguments).engine
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="displays-check-") as name:
        directory = Path(name)
        os.environ |= dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "TMPDIR"), name)
        for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            os.environ.pop(variable, None)
        found = asyncio.run(_check(engine, directory))
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
