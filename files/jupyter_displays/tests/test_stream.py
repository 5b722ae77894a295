"""The stream: who may open it, what goes through, and what those who only look cannot send."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError

from jupyter_displays import protocols, x11
from jupyter_displays.engines import ENGINES

_SPEC = importlib.util.spec_from_file_location("record_xpra", Path(__file__).with_name("record_xpra.py"))
record_xpra = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(record_xpra)


class Xpra:
    """As much of a page as a test needs."""

    def __init__(self, ws):
        self.ws = ws
        self.buffer = b""
        self.parts = {}

    def send(self, *packet):
        body = protocols.encode(list(packet))
        return self.ws.write_message(struct.pack(">cBBBI", b"P", 0x10, 0, 0, len(body)) + body, binary=True)

    async def hello(self, encodings=("png", "rgb24", "rgb32"), **more):
        await self.send(
            "hello",
            {
                "version": "6.5",
                "uuid": os.urandom(8).hex(),
                "share": True,
                "rencodeplus": True,
                "compression_level": 0,
                "ping": True,
                "ping-echo-sourceid": True,
                "windows": True,
                "window": {"enabled": True},
                "display": {"refresh-rate": 60},
                "encodings": encodings,
                "encoding": {"options": encodings, "core": encodings, "rgb_formats": ["RGB"]},
                "keyboard": True,
                "pointer": {"enabled": True},
                **more,
            },
        )
        hello = await self.packet("hello")
        await self.send("keyboard-config", {"layout": "us", "raw": True, "layout_groups": True, "sync": True})
        return hello

    async def packet(self, *names, seconds=10):
        async with asyncio.timeout(seconds):
            while True:
                while len(self.buffer) >= 8 and len(self.buffer) >= (
                    size := 8 + struct.unpack(">I", self.buffer[4:8])[0]
                ):
                    message, self.buffer = self.buffer[:size], self.buffer[size:]
                    assert not message[2]
                    if message[3]:
                        self.parts[message[3]] = message[8:]
                        continue
                    packet = protocols.Decoder(message[8:]).read()
                    for place, part in self.parts.items():
                        packet[place] = part
                    self.parts = {}
                    if packet[0] == "ping":
                        await self.send("ping_echo", packet[1], 0, 0, 0, 0)
                    if packet[0] in names:
                        return packet
                data = await self.ws.read_message()
                assert data is not None, (self.ws.close_code, self.ws.close_reason)
                self.buffer += data

    async def draw(self, window=1):
        """Return the next picture, and say that it was shown."""
        packet = await self.packet("draw")
        await self.send("window-draw-ack", packet[8], window, packet[4], packet[5], 1000, "")
        return packet

    async def key(self, keycode, level=0, modifiers=()):
        held = [*modifiers, *(["shift"] if level & 1 else []), *(["mod5"] if level & 2 else [])]
        for pressed in (True, False):
            await self.send("keyboard-event", 1, "", pressed, {"modifiers": held, "keycode": keycode, "group": 0})


class RFB:
    """As much of noVNC as a test needs."""

    def __init__(self, ws):
        self.ws = ws
        self.buffer = b""

    async def read(self, size):
        async with asyncio.timeout(10):
            while len(self.buffer) < size:
                data = await self.ws.read_message()
                assert data is not None, (self.ws.close_code, self.ws.close_reason)
                self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def send(self, data):
        return self.ws.write_message(data, binary=True)

    async def hello(self):
        assert await self.read(12) == b"RFB 003.008\n"
        await self.send(b"RFB 003.008\n")
        assert await self.read(2) == b"\1\1"
        await self.send(b"\1")
        assert await self.read(4) == b"\0\0\0\0"
        await self.send(b"\1")
        width, height = struct.unpack(">HH", (await self.read(24))[:4])
        await self.read(7)  # The name, "Display".
        return width, height

    async def update(self, width, height):
        await self.send(struct.pack(">BxHi", 2, 1, 0) + struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        return await self.read(4)


ENCODINGS = ["webp", "jpeg", "png", "rgb24", "rgb32", "scroll", "void"]
PAGES = {"xpra": Xpra, "rfb": RFB}


def shared_memory(display):
    """Return the memory that programs of a display share through the system, where others ask for it by number."""
    pids = {str(process.pid) for process in display.processes.values()}
    segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [segment for segment in segments if segment.split()[4] in pids]


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_page_gets_pictures_and_is_listed(api, connect, manager, engine):
    await api.create(width=640, height=480)
    page = PAGES[ENGINES[engine].protocol](
        await connect("api/displays/1/stream")
    )  # It may come before the display is ready.
    if engine == "xpra":
        await page.hello()
        assert (await page.packet("new-window"))[4:6] == [640, 480]
        assert (await page.packet("draw"))[2:6] == [0, 0, 640, 480]
    else:
        assert await page.hello() == (640, 480)
        assert (await page.update(640, 480))[0] == 0
    assert shared_memory(manager.displays["1"]) == []
    display = (await api("GET", "1"))[1]
    assert [viewer["mode"] for viewer in display["viewers"]] == ["control"]
    page.ws.close()
    for _ in range(100):
        display = (await api("GET", "1"))[1]
        if not display["viewers"]:
            break
        await asyncio.sleep(0.02)
    assert display["viewers"] == []


@pytest.mark.parametrize("engine", ["xpra"])
@pytest.mark.parametrize(
    "applications",
    [{"blink": {"command": ["sh", "-c", "while sleep 0.02; do xsetroot -solid red; xsetroot -solid blue; done"]}}],
)
async def test_what_moves_is_sent_as_pictures(api, connect):
    await api.create(application="blink", width=640, height=480)
    page = Xpra(await connect("api/displays/1/stream"))
    await page.hello(ENCODINGS)
    found = [await page.draw() for _ in range(30)]
    # All codecs are there for the first page, however quick it is.
    assert {picture[6] for picture in found} <= {"webp", "jpeg"}
    assert found[0][4:6] == [640, 480]


AGAIN = """
xsetroot -solid red
sleep 1.5
for i in $(seq 30); do xsetroot -solid red; sleep 0.04; done
xsetroot -solid blue
sleep 60
"""


@pytest.mark.parametrize("engine", ["xpra"])
@pytest.mark.parametrize("applications", [{"again": {"command": ["sh", "-c", AGAIN]}}])
async def test_what_is_drawn_again_as_it_was_takes_few_bytes(api, connect):
    await api.create(application="again", width=640, height=480)
    page = Xpra(await connect("api/displays/1/stream"))
    await page.hello(ENCODINGS)
    await page.draw()
    size = pictures = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while True:
                size += len((await page.draw())[7])
                pictures += 1
    # The whole screen would be 900 kB each time.
    assert 1 <= pictures <= 40
    assert size < 20_000


async def test_a_size_that_the_page_asks_the_engine_for_is_noted(api, connect):
    await api.running(width=640, height=480)
    page = RFB(await connect("api/displays/1/stream"))
    await page.hello()
    await page.send(struct.pack(">BxHi", 2, 1, -308))
    await page.send(struct.pack(">BxHHBx", 251, 800, 500, 1) + struct.pack(">IHHHHI", 0, 0, 0, 800, 500, 0))
    for _ in range(100):
        display = (await api("GET", "1"))[1]
        if display["width"] != 640:
            break
        await asyncio.sleep(0.02)
    assert (display["width"], display["height"]) == (800, 500)


async def refused(connecting):
    with pytest.raises(HTTPClientError) as error:
        await connecting
    return error.value.code


async def test_nobody_foreign_gets_in(api, connect, login_cookie):
    await api.running()
    path = "api/displays/1/stream"
    assert await refused(connect(path, headers={})) == 403
    assert await refused(connect(path, headers={"Authorization": "token foreign"})) == 403
    assert await refused(connect(path, headers={"Cookie": "username-127-0-0-1=x"})) == 403
    assert await refused(connect(path, headers={"Cookie": login_cookie, "Origin": "https://evil.example"})) == 403
    ws = await connect(path, headers={"Cookie": login_cookie})
    assert (await ws.read_message())[:3] == b"RFB"
    ws.close()


async def test_how_streams_end(api, connect, manager):
    ws = await connect("api/displays/9/stream")
    assert await ws.read_message() is None
    assert (ws.close_code, ws.close_reason) == (4404, "There is no such display.")
    await api.running()
    ws = await connect("api/displays/1/stream")
    await ws.read_message()
    os.kill(manager.displays["1"].processes["x"].pid, signal.SIGKILL)
    assert await ws.read_message() is None
    assert (ws.close_code, ws.close_reason) == (4410, "The X server was killed by SIGKILL.")
    await api.running()
    ws = await connect("api/displays/2/stream")
    await ws.read_message()
    await api("DELETE", "2")
    assert await ws.read_message() is None
    assert (ws.close_code, ws.close_reason) == (4410, "It was shut down.")


@pytest.mark.parametrize("engine", ENGINES)
async def test_activity_is_keys_and_pointer_and_not_an_open_page(api, connect, jp_serverapp, engine):
    await api.running()
    first = (await api("GET", "1"))[1]["last_activity"]
    server = jp_serverapp.web_app.last_activity()
    page = PAGES[ENGINES[engine].protocol](await connect("api/displays/1/stream"))
    size = await page.hello()
    if engine == "xpra":
        await page.packet("draw")
        await page.send("ping", 1)
        await page.packet("ping_echo")
    else:
        await page.update(*size)
    assert (await api("GET", "1"))[1]["last_activity"] == first
    assert jp_serverapp.web_app.last_activity() == server
    if engine == "xpra":
        await page.send("pointer-motion", -1, 0, 1, [10, 10], {"modifiers": []})
    else:
        await page.send(struct.pack(">BBHH", 5, 0, 10, 10))
    for _ in range(100):
        if (await api("GET", "1"))[1]["last_activity"] > first:
            break
        await asyncio.sleep(0.02)
    assert (await api("GET", "1"))[1]["last_activity"] > first
    assert jp_serverapp.web_app.last_activity() > server
    page.ws.close()


@pytest.fixture
def applications(tmp_path):
    """A terminal that keeps what is typed into it."""
    script = f"stty -echo -icanon min 1; echo; cat > {tmp_path}/typed"
    return {
        "sleep": {"title": "Sleep", "command": ["sleep", "600"]},
        "keep": {"title": "Keep", "command": ["xterm", "-u8", "-maximized", "-e", "sh", "-c", script]},
        "fails": {"title": "Fails", "command": ["false"]},
    }


async def typed(tmp_path, expected, seconds=5):
    """Return what arrived, as soon as it is what is expected."""
    deadline = time.monotonic() + seconds
    text = ""
    while time.monotonic() < deadline and text != expected:
        with contextlib.suppress(OSError):
            text = (tmp_path / "typed").read_text(encoding="utf-8", errors="replace")
        await asyncio.sleep(0.02)
    return text


async def started(api, tmp_path):
    await api.running(application="keep", width=800, height=600)
    for _ in range(300):
        if (tmp_path / "typed").exists():
            break
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)


TEXT = "Hello, World! {[@#$%^&*]} Съешь ещё этих мягких булок, да выпей чаю. äöüß ÄÖÜ éèàç ÿ ñ € № «»"


@pytest.mark.parametrize("engine", ENGINES)
async def test_any_text_is_typed(api, tmp_path, engine):
    await started(api, tmp_path)
    text = TEXT + " 漢字 ελληνικά 😀 \n aaabbb"
    assert (await api("POST", "1", "text", body={"text": text}))[0] == 204
    assert await typed(tmp_path, text) == text


@pytest.mark.parametrize("engine", ENGINES)
async def test_text_arrives_where_the_pointer_is_on_no_window(api, manager, tmp_path, engine):
    await started(api, tmp_path)
    display = manager.displays["1"]

    def put_pointer_beside():
        with x11.Connection(display.number, display.screen.authority) as x:
            x.send(41, 0, struct.pack("<IIhhHHhh", 0, x.root, 0, 0, 0, 0, 799, 599))
            x.check()
            x.send(43, 0)
            return struct.unpack_from("<I", x.reply(), 8)[0]

    focus = await asyncio.to_thread(put_pointer_beside)
    for text in ("one, ж", "two, 漢"):
        assert (await api("POST", "1", "text", body={"text": text}))[0] == 204
    assert await typed(tmp_path, "one, жtwo, 漢") == "one, жtwo, 漢"
    assert await asyncio.to_thread(put_pointer_beside) == focus


@pytest.mark.parametrize("engine", ["xpra"])
async def test_every_character_of_the_table_has_its_key(api, connect, tmp_path, engine):
    await started(api, tmp_path)
    table = (await api("GET", "1", "keymap"))[1]["keys"]
    page = Xpra(await connect("api/displays/1/stream"))
    await page.hello()
    await page.packet("draw")
    characters = "".join(sorted(character for character in table if character not in "\xad"))
    assert len(characters) > 300
    for character in TEXT + characters:
        await page.key(*table[character])
    assert await typed(tmp_path, TEXT + characters, 20) == TEXT + characters


@pytest.mark.parametrize("engine", ["tigervnc"])
async def test_every_character_of_the_table_has_its_key_symbol(api, connect, tmp_path, engine):
    await started(api, tmp_path)
    table = (await api("GET", "1", "keymap"))[1]["keys"]
    page = RFB(await connect("api/displays/1/stream"))
    await page.hello()
    characters = "".join(sorted(character for character in table if character not in "\xad"))
    for character in TEXT + characters:
        for pressed in (1, 0):
            await page.send(struct.pack(">BBxxI", 4, pressed, x11.keysym(character)))
    assert await typed(tmp_path, TEXT + characters, 20) == TEXT + characters


@pytest.mark.parametrize("engine", ENGINES)
async def test_who_only_looks_sees_and_can_do_nothing(api, connect, tmp_path, engine):
    await started(api, tmp_path)
    share = (await api("POST", "1", "shares", body={"mode": "view"}))[1]
    token = share["url"].rpartition("/")[2]
    page = PAGES[ENGINES[engine].protocol](await connect("displays/shared", token, "stream?name=Анна", headers={}))
    display = {"display": {"desktop_mode_size": [333, 222]}} if engine == "xpra" else {}
    size = await page.hello(**display)
    if engine == "xpra":
        assert (await page.packet("draw"))[4:6] == [800, 600]
        await page.key(38)
        await page.send("key-action", 1, "", True, [], 0, "", 38, 0)
        await page.send("button-action", 1, 1, True, [10, 10], [], [])
        await page.send("pointer-button", -1, 0, 1, 1, True, [10, 10], {"modifiers": []})
        await page.send("configure-window", 1, 0, 0, 400, 300, {})
        await page.send("window-configure", 1, {"geometry": [0, 0, 400, 300]})
        await page.send("shutdown-server")
        await page.send("exit-server")
        await page.send("ping", 1)
        await page.packet("ping_echo")
    else:
        await page.update(*size)
        await page.send(struct.pack(">BBxxI", 4, 1, 0x61) + struct.pack(">BBxxI", 4, 0, 0x61))
        await page.send(struct.pack(">BBHH", 5, 1, 10, 10))
        await page.send(struct.pack(">BxHHBx", 251, 400, 300, 1) + struct.pack(">IHHHHI", 0, 0, 0, 400, 300, 0))
        await page.send(struct.pack(">BxxxI", 6, 4) + b"clip")
    assert (await api("GET", "1"))[1]["viewers"][0]["name"] == "Анна"
    await asyncio.sleep(0.3)
    assert (tmp_path / "typed").read_text() == ""
    assert (await api("GET", "1"))[1]["state"] == "running"
    from jupyter_displays import x11

    assert x11.size(*await _display(api)) == (800, 600)
    assert (await api("DELETE", "1", "shares", share["id"]))[0] == 204
    while await page.ws.read_message() is not None:
        pass
    assert (page.ws.close_code, page.ws.close_reason) == (4403, "This link was taken back.")
    assert await refused(connect("displays/shared", token, "stream", headers={})) == 403


@pytest.mark.parametrize("engine", ["xpra"])
async def test_a_stream_lasts_while_both_sides_ping(api, connect):
    """A server of Xpra 6 ends a connection that pings without having asked for it."""
    await api.running()
    share = (await api("POST", "1", "shares", body={"mode": "view"}))[1]
    token = share["url"].rpartition("/")[2]
    owner = Xpra(await connect("api/displays/1/stream"))
    guest = Xpra(await connect("displays/shared", token, "stream", headers={}))
    end = time.monotonic() + 17
    for page in (owner, guest):
        await page.hello()
    pinged = 0
    while time.monotonic() < end:
        for page in (owner, guest):
            await page.send("ping", 1)
            assert (await page.packet("ping_echo"))[1] == 1
            with contextlib.suppress(TimeoutError):
                await page.packet("ping", seconds=2)
                pinged += 1
    assert pinged >= 2
    assert len((await api("GET", "1"))[1]["viewers"]) == 2


@pytest.mark.parametrize("engine", ["xpra"])
async def test_a_key_that_is_held_stays_down(api, connect, manager):
    await api.running()
    display = manager.displays["1"]
    page = Xpra(await connect("api/displays/1/stream"))
    await page.hello(key_repeat=[60_000, 30])
    await page.packet("draw")

    def down():
        with x11.Connection(display.number, display.screen.authority) as x:
            x.send(44, 0)
            keys = x.reply()[8:40]
            return bool(keys[38 // 8] & 1 << 38 % 8)

    await page.send("keyboard-event", 1, "", True, {"keycode": 38, "modifiers": []})
    await asyncio.sleep(1.5)
    assert await asyncio.to_thread(down)
    assert not await asyncio.to_thread(x11.repeats, display.number, display.screen.authority)
    await page.send("keyboard-event", 1, "", False, {"keycode": 38, "modifiers": []})
    await asyncio.sleep(0.3)
    assert not await asyncio.to_thread(down)


@pytest.mark.skipif(not shutil.which("xclip"), reason="not installed: xclip")
@pytest.mark.parametrize("engine", ["xpra"])
@pytest.mark.parametrize("mode", ["view", "control"])
async def test_who_only_looks_gets_no_clipboard_of_xpra(api, connect, manager, mode):
    copy = "sleep 2; echo secret | xclip -selection clipboard -quiet"
    manager.applications["copy"] = {"title": "Copy", "command": ["sh", "-c", copy]}
    await api.running(application="copy")
    share = (await api("POST", "1", "shares", body={"mode": mode}))[1]
    page = Xpra(await connect("displays/shared", share["url"].rpartition("/")[2], "stream", headers={}))
    targets = {"selections": ["CLIPBOARD"], "greedy": True, "want_targets": True}
    await page.hello(clipboard={"enabled": True, "preferred-targets": ["UTF8_STRING"], **targets})
    await page.send("clipboard-request", 7, "CLIPBOARD", "UTF8_STRING")
    if mode == "control":
        token = await page.packet("clipboard-token")
        while len(token) < 8:
            token = await page.packet("clipboard-token")
        assert token[7] == b"secret\n"
    else:
        with pytest.raises(TimeoutError):
            await page.packet("clipboard-token", "clipboard-contents", seconds=4)


@pytest.mark.skipif(not shutil.which("xclip"), reason="not installed: xclip")
@pytest.mark.parametrize("mode", ["view", "control"])
async def test_who_only_looks_does_not_get_the_clipboard(api, connect, manager, mode):
    copy = "sleep 1; echo secret | xclip -selection clipboard -quiet"
    manager.applications["copy"] = {"title": "Copy", "command": ["sh", "-c", copy]}
    await api.running(application="copy")
    share = (await api("POST", "1", "shares", body={"mode": mode}))[1]
    page = RFB(await connect("displays/shared", share["url"].rpartition("/")[2], "stream", headers={}))
    await page.hello()
    await page.send(struct.pack(">BxHi", 2, 1, 0))
    got = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2.5):
            while True:
                kind, length = struct.unpack(">Bxxxi", await page.read(8))
                assert kind == 3
                got.append((length, await page.read(abs(length))))
    if mode == "control":
        assert (7, b"secret\n") in got
    else:
        # What the server can do (0x1F), and that there is something (0x08): nothing that has content (0x10).
        assert {(length < 0, content[0]) for length, content in got} <= {(True, 0x1F), (True, 0x08)}
        assert got
    page.ws.close()


@pytest.fixture(autouse=True)
def _know_the_manager(manager, api):
    api.manager = manager


async def _display(api):
    display = api.manager.displays["1"]
    return display.number, display.screen.authority


async def test_who_has_control_by_a_link_types(api, connect, tmp_path, jp_fetch):
    await started(api, tmp_path)
    share = (await api("POST", "1", "shares", body={"mode": "control"}))[1]
    token = share["url"].rpartition("/")[2]
    page = RFB(await connect("displays/shared", token, "stream", headers={}))
    await page.hello()
    await page.send(struct.pack(">BBxxI", 4, 1, 0x61) + struct.pack(">BBxxI", 4, 0, 0x61))
    assert await typed(tmp_path, "a") == "a"
    options = {"headers": {"Authorization": ""}, "raise_error": False}
    assert (await jp_fetch("displays", "shared", token, "keymap", **options)).code == 200
    response = await jp_fetch("displays", "shared", token, "text", method="POST", body='{"text": "ж"}', **options)
    assert response.code == 204
    assert await typed(tmp_path, "aж") == "aж"
    page.ws.close()


async def test_links_that_do_not_hold(api, connect, jp_fetch):
    await api.running()
    assert await refused(connect("displays/shared", "A" * 43, "stream", headers={})) == 403
    options = {"headers": {"Authorization": ""}, "raise_error": False}
    assert (await jp_fetch("displays", "shared", "A" * 43, **options)).code == 404
    assert (await api("POST", "1", "shares", body={"mode": "admin"}))[0] == 400
    share = (await api("POST", "1", "shares", body={"mode": "view"}))[1]
    token = share["url"].rpartition("/")[2]
    assert (await jp_fetch("displays", "shared", token, **options)).code == 200
    assert (await jp_fetch("displays", "shared", token, "keymap", **options)).code == 403
    listed = (await api("GET", "1", "shares"))[1]["shares"]
    assert [(link["id"], link["mode"]) for link in listed] == [(share["id"], "view")]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"P\x10\1\0\0\0\0\3\xc1\x81a",  # compressed
        b"P\x10\0\1\0\0\0\5hello",  # a part
        b"P\x12\0\0\0\0\0\5hello",  # encrypted
        b"P\x10\0\0\x7f\xff\xff\xff",  # without end
        b"P\x10\0\0\0\0\0\2\xc1\x85",  # cut off
        b"P\x10\0\0\0\0\0\1\xc1",
        b"P\x10\0\0\0\0\0\1\xc0",  # nameless
        b"P\x10\0\0\0\0\0\7\xc1\x85hello",
        b"P\0\0\0\0\0\0\7l4:ping",  # bencode
        b"P\x10\0\0\0\0\x20\0" + b"\xc1" * 8192,
    ],
)
def test_what_is_not_understood_ends_the_look(data):
    with pytest.raises(protocols.RefusedError):
        protocols.filter_for("xpra", view_only=True).feed(data)


def packed(*packet):
    body = protocols.encode(list(packet))
    return struct.pack(">cBBBI", b"P", 0x10, 0, 0, len(body)) + body


def test_a_greeting_is_cut_down_to_looking():
    greeting = {
        "version": "6.5",
        "request": "exit",
        "command_request": ["stop"],
        "uuid": "of somebody else",
        "steal": True,
        "share": False,
        "keyboard": True,
        "xkbmap_keycodes": [1],
        "pointer": {"record": True},
        "mouse": True,
        "clipboard": {"enabled": True},
        "encodings": ["png"],
        "encoding": {"core": ["png"]},
        "display": {"desktop_mode_size": [1, 1]},
        "window": {"record": True},
        "control_commands": ["x"],
        "ping": True,
        "number": -7,
        "file": {"enabled": True},
    }
    message = packed("hello", greeting)
    reader = protocols.filter_for("xpra", view_only=True)
    sent = b"".join(reader.feed(message[i : i + 7])[0] for i in range(0, len(message), 7))
    name, left = protocols.Decoder(sent[8:]).read()
    assert len(left.pop("uuid")) == 32
    assert (name, left) == (
        "hello",
        {
            "version": "6.5",
            "encodings": ["png"],
            "encoding": {"core": ["png"]},
            "ping": True,
            "share": True,
            "windows": True,
            "window": {"enabled": True},
            "display": {"resize-events": True},
        },
    )


@pytest.mark.parametrize(
    ("packet", "left"),
    [
        (("ping", 1), ["ping", 1]),
        (("ping_echo", 1, 0, 0, 0, 0), ["ping_echo", 1, 0, 0, 0, 0]),
        (("window-draw-ack", 1, 1, 640, 480, 1000, ""), ["window-draw-ack", 1, 1, 640, 480, 1000, ""]),
        (("window-map", 1, 0, 0, 640, 480, {}, {"iconified": True}), ["window-map", 1, 0, 0, 640, 480]),
        (("keyboard-config", {"layout": "de"}), None),
        (("keymap-changed", {}), None),
        (("clipboard-token", "CLIPBOARD"), None),
        (("encoding-config", {}), None),
        (("window-configure", 1, {"geometry": [0, 0, 9, 9]}), None),
        (("window-action", 1, "close"), None),
        (("control-request", 1, "stop"), None),
        (("exit-server",), None),
    ],
)
def test_of_a_viewer_only_what_is_on_the_list_is_sent_on(packet, left):
    sent, used = protocols.filter_for("xpra", view_only=True).feed(packed(*packet))
    assert (protocols.Decoder(sent[8:]).read() if sent else None) == left
    assert not used


@pytest.mark.parametrize("name", ["keyboard-event", "key-action", "pointer-motion", "pointer-button", "pointer-wheel"])
def test_keys_and_pointer_count_as_use(name):
    message = packed(name, 1)
    assert protocols.filter_for("xpra", view_only=False).feed(message) == (message, True)
    assert protocols.filter_for("xpra", view_only=True).feed(message) == (b"", True)


RECORDED = sorted((Path(__file__).parent / "xpra").glob("rencodeplus-*.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_xpra_wrote_is_read_and_written_alike(path):
    for entry in json.loads(path.read_text(encoding="utf-8"))["values"]:
        value, wire = record_xpra.plain(entry["value"]), bytes.fromhex(entry["wire"])
        assert protocols.Decoder(wire).read() == value
        assert protocols.encode(value) == wire, value


def test_numbers_that_xpra_does_not_read_are_not_written():
    with pytest.raises(ValueError, match="too long"):
        protocols.encode(10**63)


def test_the_installed_xpra_writes_what_was_recorded():
    if not (xpra := shutil.which("xpra")):
        pytest.skip("not installed: xpra")
    python = Path(xpra).read_bytes().split(b"\n")[0].removeprefix(b"#!").decode().strip()
    script = Path(record_xpra.__file__)
    answer = subprocess.run([python, str(script)], capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"the installed Xpra has no rencodeplus: {answer.stderr.splitlines()[-1]}")
    assert json.loads(answer.stdout)["values"] == json.loads(RECORDED[-1].read_text(encoding="utf-8"))["values"]


@pytest.mark.skipif(not shutil.which("xclip"), reason="not installed: xclip")
@pytest.mark.parametrize("engine", ENGINES)
async def test_what_was_copied_is_read_by_who_may_use_it(api, jp_fetch, manager, engine):
    await api.running()
    display = manager.displays["1"]
    assert await api("GET", "1", "clipboard") == (204, b"")
    picture = await asyncio.to_thread(x11.png, display.number, display.screen.authority, 320)
    links = {
        mode: (await api("POST", "1", "shares", body={"mode": mode}))[1]["url"].rpartition("/")[2]
        for mode in ("view", "control")
    }
    x = os.environ | {"DISPLAY": f":{display.number}", "XAUTHORITY": str(display.screen.authority)}
    for target, data in (("UTF8_STRING", "secret, ß, 漢字\n".encode()), ("STRING", b"old"), ("image/png", picture)):
        command = ["xclip", "-selection", "clipboard", "-target", target, "-quiet"]
        program = await asyncio.create_subprocess_exec(*command, env=x, stdin=asyncio.subprocess.PIPE, stderr=-3)
        program.stdin.write(data)
        program.stdin.close()
        for _ in range(100):
            status, read = await api("GET", "1", "clipboard")
            if status == 200:
                break
            await asyncio.sleep(0.02)
        shared = await jp_fetch("displays", "shared", links["control"], "clipboard", headers={})
        refused = await jp_fetch("displays", "shared", links["view"], "clipboard", headers={}, raise_error=False)
        # It ends by itself when somebody else has the clipboard.
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await program.wait()
        assert read == shared.body == data
        assert shared.headers["Content-Type"].startswith("image/png" if data == picture else "text/plain")
        assert (refused.code, b"secret" in refused.body) == (403, False)
