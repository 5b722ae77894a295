"""The stream: who may open it, what goes through, and what those who only look cannot send."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import struct
import subprocess
import time
import zlib
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError

from jupyter_displays import protocols, x11

ENGINES = ["xpra", "tigervnc"]


class Xpra:
    """As much of a page as a test needs."""

    def __init__(self, ws):
        self.ws = ws
        self.buffer = b""

    def send(self, *packet, flags=0):
        body = protocols.encode(list(packet), bencode=not flags & 0x10)
        return self.ws.write_message(struct.pack(">cBBBI", b"P", flags, 0, 0, len(body)) + body, binary=True)

    async def hello(self, **more):
        await self.send(
            "hello",
            {
                "version": "4.4",
                "uuid": os.urandom(8).hex(),
                "share": True,
                "bencode": True,
                "rencode": False,
                "yaml": False,
                "zlib": False,
                "lz4": False,
                "compression_level": 0,
                "windows": True,
                "encodings": ["png", "rgb24", "rgb32"],
                "encodings.core": ["png", "rgb24", "rgb32"],
                "desktop_size": [800, 600],
                "keyboard": True,
                "xkbmap_layout": "us",
                "xkbmap_raw": True,
                "xkbmap_layout_groups": True,
                **more,
            },
        )
        return await self.packet("hello")

    async def packet(self, *names):
        async with asyncio.timeout(10):
            while True:
                while len(self.buffer) >= 8 and len(self.buffer) >= (
                    size := 8 + struct.unpack(">I", self.buffer[4:8])[0]
                ):
                    message, self.buffer = self.buffer[:size], self.buffer[size:]
                    if not message[2] and not message[3]:
                        packet = protocols.Decoder(message[8:], bencode=True).read()
                        if packet[0] in names:
                            return packet
                data = await self.ws.read_message()
                assert data is not None, (self.ws.close_code, self.ws.close_reason)
                self.buffer += data

    async def key(self, keycode, level=0, modifiers=()):
        held = [*modifiers, *(["shift"] if level & 1 else []), *(["mod5"] if level & 2 else [])]
        for pressed in (True, False):
            await self.send("key-action", 1, "", pressed, held, 0, "", keycode, 0)


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


PAGES = {"xpra": Xpra, "tigervnc": RFB}


def shared_memory(display):
    """Return the memory that programs of a display share through the system, where others ask for it by number."""
    pids = {str(process.pid) for process in display.processes.values()}
    segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [segment for segment in segments if segment.split()[4] in pids]


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_page_gets_pictures_and_is_listed(api, connect, manager, engine):
    await api.create(width=640, height=480)
    page = PAGES[engine](await connect("api/displays/1/stream"))  # It may come before the display is ready.
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
async def test_what_moves_is_sent_as_pictures_and_what_stands_still_without_loss(api, connect):
    await api.create(application="blink", width=640, height=480)
    page = Xpra(await connect("api/displays/1/stream"))
    encodings = ["webp", "jpeg", "png", "rgb24", "rgb32"]
    options = {"encoding.min-quality": 80, "encoding.scrolling": True, "encodings.rgb_formats": ["RGBX", "RGB"]}
    await page.hello(encodings=encodings, **{"encodings.core": encodings}, **options)
    found = []
    async with asyncio.timeout(10):
        while found[-3:] != ["jpeg"] * 3:
            _, window, _, _, width, height, coding, _, sequence, *_ = await page.packet("draw")
            await page.send("damage-sequence", sequence, window, width, height, 1000, "")
            found.append(coding)
    # All codecs are there for the first page, however quick it is.
    assert found[0] == "webp"


AGAIN = """
xsetroot -solid red
sleep 1.5
for i in $(seq 30); do xsetroot -solid red; sleep 0.04; done
xsetroot -solid blue
sleep 60
"""


@pytest.mark.parametrize("engine", ["xpra"])
@pytest.mark.parametrize("applications", [{"again": {"command": ["sh", "-c", AGAIN]}}])
async def test_what_is_drawn_again_as_it_was_is_not_sent_again(api, connect):
    answer = subprocess.run(["xpra", "--version"], capture_output=True, text=True, check=True).stdout
    if " v3." not in answer:
        pytest.skip(f"{answer.strip()} is left as it is")
    if subprocess.run(["/usr/bin/python3", "-c", "import PIL.ImageChops"], capture_output=True, check=False).returncode:
        pytest.skip("python3-pil is missing, which finds what differs")
    await api.create(application="again", width=640, height=480)
    page = Xpra(await connect("api/displays/1/stream"))
    await page.hello(encodings=["rgb24"], **{"encodings.core": ["rgb24"], "encodings.rgb_formats": ["RGB"]})
    found = []
    async with asyncio.timeout(15):
        while not found or found[-1] != b"\x00\x00\xff":
            _, window, _, _, width, height, _, data, sequence, *_ = await page.packet("draw")
            await page.send("damage-sequence", sequence, window, width, height, 1000, "")
            found.append(zlib.decompress(data.encode(errors="surrogateescape"))[:3])
    # What was there when the page came, and what came to be there.
    assert len(found) <= 4, found


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
    page = PAGES[engine](await connect("api/displays/1/stream"))
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
        await page.send("pointer-position", 1, [10, 10], [], [])
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
    page = PAGES[engine](await connect("displays/shared", token, "stream?name=Анна", headers={}))
    size = await page.hello() if engine == "tigervnc" else await page.hello(desktop_mode_size=[333, 222])
    if engine == "xpra":
        assert (await page.packet("draw"))[4:6] == [800, 600]
        await page.key(38)
        await page.send("button-action", 1, 1, True, [10, 10], [], [])
        await page.send("configure-window", 1, 0, 0, 400, 300, {})
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
        b"P\0\1\0\0\0\0\5l5:he",  # compressed
        b"P\0\0\1\0\0\0\5hello",  # a part
        b"P\2\0\0\0\0\0\5hello",  # encrypted
        b"P\0\0\0\x7f\xff\xff\xff",  # without end
        b"P\0\0\0\0\0\0\3lle",  # cut off
        b"P\0\0\0\0\0\0\2le",  # nameless
        b"P\0\0\0\0\0\0\7l5:helle",
        b"P\x10\0\0\0\0\0\1\xc1",
        b"P\0\0\0\0\0\x20\0" + b"l" * 8192,
    ],
)
def test_what_is_not_understood_ends_the_look(data):
    with pytest.raises(protocols.RefusedError):
        protocols.messages("xpra", view_only=True).feed(data)


@pytest.mark.parametrize("bencode", [True, False])
def test_a_greeting_is_cut_down_to_looking(bencode):
    flags = 0 if bencode else 0x10
    greeting = {
        "version": "4.4",
        "request": "exit",
        "command_request": ["stop"],
        "steal": True,
        "share": False,
        "keyboard": True,
        "encodings.core": ["png"],
        "desktop_mode_size": [1, 1],
        "number": -7,
        "file": {"enabled": True},
    }
    body = protocols.encode(["hello", greeting], bencode=bencode)
    message = struct.pack(">cBBBI", b"P", flags, 0, 0, len(body)) + body
    reader = protocols.messages("xpra", view_only=True)
    sent = b"".join(reader.feed(message[i : i + 7])[0] for i in range(0, len(message), 7))
    assert protocols.Decoder(sent[8:], bencode=bencode).read() == [
        "hello",
        {
            "version": "4.4",
            "encodings.core": ["png"],
            "share": True,
            "keyboard": 0 if bencode else False,
            "clipboard": 0 if bencode else False,
            "notifications": 0 if bencode else False,
            "system_tray": 0 if bencode else False,
        },
    ]


@pytest.mark.parametrize(
    "value", [0, 43, 44, -1, -32, -33, 200, 70000, -(2**40), 2**70, "", "x" * 63, "y" * 64, "z" * 5000]
)
def test_numbers_and_texts_are_read_as_they_were_written(value):
    for bencode in (True, False):
        assert protocols.Decoder(protocols.encode([value, [value]], bencode=bencode), bencode=bencode).read() == [
            value,
            [value],
        ]
