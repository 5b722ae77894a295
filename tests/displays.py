"""What people have on their side of a display: a screen, a keyboard of their country, and a network that may be bad."""

from __future__ import annotations

import asyncio
import os
import runpy
import struct
import subprocess
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.site.centre import wait_until

ROOT = Path(__file__).resolve().parents[1]
# What makes displays asks X servers for things, too.
X11: Any = runpy.run_path(str(ROOT / "files/jupyter_displays/jupyter_displays/x11.py"))
LAYOUTS = ("us", "ru", "de", "fr")
# Keys by what is printed on them in the United States, as the numbers that X gives them.
KEYS = {" ": 65, "`": 49, "\\": 51}
for first, row in ((10, "1234567890-="), (24, "qwertyuiop[]"), (38, "asdfghjkl;'"), (52, "zxcvbnm,./")):
    KEYS |= {name: first + place for place, name in enumerate(row)}
KEYS |= {"enter": 36, "shift": 50, "control": 37, "altgr": 108, "next layout": 78, "compose": 135}
# How many colours there are in the picture that the page shows.
COLOURS = """() => {
  const canvas = [...document.querySelectorAll(".jp-Display canvas")].find(one => one.offsetParent);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const found = new Set();
  for (let at = 0; at < data.length; at += 4 * 97) found.add(data.slice(at, at + 3).join());
  return found.size;
}"""


class Screen:
    """A monitor for a browser with a keyboard that has the layouts of four countries, as X servers have them."""

    def __init__(self, directory: Path) -> None:
        """Start the X server."""
        authority = directory / "xauthority"
        X11["write_authority"](authority)
        # Far from the numbers that displays get; the server ends if somebody has it.
        number = 2000 + os.getpid() % 20000
        command = ["Xvfb", f":{number}", "-auth", str(authority), "-screen", "0", "1400x1000x24", "-noreset"]
        self._server = subprocess.Popen([*command, "-nolisten", "tcp"], stderr=subprocess.DEVNULL)
        wait_until(lambda: self._server.poll() is not None or self._connect(number, authority), "an X server")
        assert self._server.poll() is None, "the X server has ended"
        self.environment = {**os.environ, "DISPLAY": f":{number}", "XAUTHORITY": str(authority)}
        options = "grp:sclk_toggle,compose:menu"
        subprocess.run(
            ["setxkbmap", "-layout", ",".join(LAYOUTS), "-option", options], env=self.environment, check=True
        )
        self._layout = 0

    def _connect(self, number: int, authority: Path) -> bool:
        try:
            self._keyboard = X11["Connection"](number, authority)
        except X11["XError"]:
            return False
        return True

    def press(self, key: str, *held: str) -> None:
        """Press a key and let it go, while others are held."""
        for name in held:
            self._event(2, KEYS[name])
        self._event(2, KEYS[key])
        self._event(3, KEYS[key])
        for name in reversed(held):
            self._event(3, KEYS[name])
        # As quickly as nobody types.
        time.sleep(0.01)

    def switch_to(self, layout: str) -> None:
        """Have the keys mean what they do in another country, with the key that does this."""
        while LAYOUTS[self._layout] != layout:
            self.press("next layout")
            self._layout = (self._layout + 1) % len(LAYOUTS)

    def _event(self, kind: int, keycode: int) -> None:
        test = self._keyboard.extension(b"XTEST")
        self._keyboard.send(test, 2, struct.pack("<BBxxII8xhh8x", kind, keycode, 0, self._keyboard.root, 0, 0))
        self._keyboard.check()

    def close(self) -> None:
        """Turn it off."""
        self._keyboard.__exit__(None, None, None)
        self._server.terminate()
        self._server.wait()


class Wire:
    """The way from this machine to a port of a host, which can be slow, stand still, or break."""

    def __init__(self, ssh: list[str], port: int, directory: Path) -> None:
        """Open it."""
        # Seconds that everything takes, in each direction.
        self.delay = 0.0
        self._broken = False
        self._open: set[asyncio.StreamWriter] = set()
        self._socket = directory / "wire"
        self._tunnel = subprocess.Popen([*ssh, "-N", "-L", f"{self._socket}:127.0.0.1:{port}"])
        wait_until(self._socket.exists, "a tunnel to the host")
        self._loop = asyncio.new_event_loop()
        self._moving = asyncio.Event()
        self._moving.set()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        server: asyncio.Server = self._run(asyncio.start_server(self._connect, "127.0.0.1", 0))
        self.port: int = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections, and let nobody through."""

        async def cut() -> None:
            self._broken = True
            for writer in self._open:
                writer.transport.abort()

        self._run(cut())

    def mend(self) -> None:
        """Let people through again."""
        self._broken = False

    def stall(self, seconds: float) -> None:
        """Hold everything back for a while, as a network does that loses packets."""
        self._loop.call_soon_threadsafe(self._moving.clear)
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, self._moving.set)

    def close(self) -> None:
        """End it."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._tunnel.terminate()
        self._tunnel.wait()

    def _run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._broken:
            writer.transport.abort()
            return
        there = await asyncio.open_unix_connection(str(self._socket))
        self._open |= {writer, there[1]}
        await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer), return_exceptions=True)
        self._open -= {writer, there[1]}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes in one direction, each after the delay, however many follow it."""
        travelling: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

        async def deliver() -> None:
            data = b"first"
            while data:
                due, data = await travelling.get()
                await asyncio.sleep(due - self._loop.time())
                await self._moving.wait()
                writer.write(data)
                await writer.drain()
            writer.close()

        delivery = asyncio.ensure_future(deliver())
        data = b"first"
        while data and not delivery.done():
            try:
                data = await reader.read(2**16)
            except ConnectionError:
                data = b""
            await travelling.put((self._loop.time() + self.delay, data))
        await delivery
