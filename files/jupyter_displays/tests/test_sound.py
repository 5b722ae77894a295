"""The sound of a display: what real programs play arrives, for who may listen, and costs nothing while it is silent."""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import math
import os
import shutil
import signal
import subprocess
import time
import wave
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError

from jupyter_displays import sound
from jupyter_displays.engines import ENGINES
from jupyter_displays.manager import DisplayManager

pytestmark = pytest.mark.skipif(not sound.installed(), reason="not installed: pulseaudio, libopus0")

TONE = 440


@pytest.fixture
def tone(tmp_path):
    """A file with two seconds of a tone."""
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(44100)
        samples = (round(8000 * math.sin(2 * math.pi * TONE * at / 44100)) for at in range(2 * 44100))
        file.writeframes(array.array("h", samples).tobytes())
    return path


@pytest.fixture
def applications(tone):
    """Applications that play it, again and again or once, with real programs."""
    commands = {
        "sleep": "sleep 600",
        "once": f"paplay {tone}; sleep 600",
        "paplay": f"while paplay {tone}; do :; done; sleep 600",
        "aplay": f"while aplay -q {tone}; do :; done; sleep 600",
    }
    return {name: {"title": name, "command": ["sh", "-c", command]} for name, command in commands.items()}


async def refused(connecting):
    with pytest.raises(HTTPClientError) as error:
        await connecting
    return error.value.code


class Ear:
    """What a page does with packets."""

    def __init__(self, ws):
        self.ws = ws
        self.opus = ctypes.CDLL("libopus.so.0")
        self.opus.opus_decoder_create.restype = ctypes.c_void_p
        self.decoder = ctypes.c_void_p(self.opus.opus_decoder_create(48000, 2, None))
        self.bytes = 0

    async def hear(self, seconds, answers=True):
        """Return the samples of one channel, when there are enough that are not silent."""
        heard = array.array("h")
        for packet in range(10**6):
            data = await self.ws.read_message()
            assert data is not None, (self.ws.close_code, self.ws.close_reason)
            self.bytes += len(data)
            samples = (ctypes.c_int16 * (5760 * 2))()
            count = self.opus.opus_decode(self.decoder, data, len(data), samples, 5760, 0)
            assert count == 960
            left = samples[: 2 * count : 2]
            if heard or max(left) > 1000:
                heard.extend(left)
            if len(heard) >= seconds * 48000:
                return heard
            if answers and packet % 10 == 9:
                await self.ws.write_message(b"", binary=True)
        raise AssertionError

    async def end(self):
        """Return with which code and words it is closed."""
        async with asyncio.timeout(10):
            while await self.ws.read_message() is not None:
                pass
        return self.ws.close_code, self.ws.close_reason


def pitch(samples):
    """Return how often a second it goes from below to above zero."""
    crossings = sum(before < 0 <= after for before, after in zip(samples, samples[1:], strict=False))
    return crossings * 48000 / len(samples)


def servers(directory):
    """Return the sound servers of the display in a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            here = f"JUPYTER_DISPLAY_DIR={directory}".encode() in (path / "environ").read_bytes()
            if here and (path / "comm").read_text() == "pulseaudio\n":
                found.append(int(path.name))
    return found


async def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize(("engine", "program"), [("xpra", "paplay"), ("tigervnc", "paplay"), ("tigervnc", "aplay")])
async def test_a_tone_that_a_program_plays_arrives(api, connect, manager, engine, program):
    if not shutil.which(program):
        pytest.skip(f"not installed: {program}")
    display = await api.running(application=program)
    assert display["sound"] is True
    # An engine that still starts takes the time that sound needs.
    await until(lambda: manager.displays["1"].size_stable)
    ear = Ear(await connect("api/displays/1/sound"))
    async with asyncio.timeout(10):
        await ear.hear(0.3)
        ear.bytes, begin = 0, time.monotonic()
        assert pitch(await ear.hear(1)) == pytest.approx(TONE, rel=0.02)
    assert ear.bytes / (time.monotonic() - begin) < 12_000
    directory = manager.displays["1"].directory
    assert len(servers(directory)) == 1
    assert (await api("DELETE", "1"))[0] == 204
    assert await ear.end() == (4410, "It was shut down.")
    assert servers(directory) == []
    assert not directory.exists()


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_display_in_which_nothing_plays_has_no_sound_server(api, connect, manager, engine):
    await api.running()
    ear = Ear(await connect("api/displays/1/sound"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await ear.ws.read_message()
    assert servers(manager.displays["1"].directory) == []
    ear.ws.close()


async def test_nothing_is_recorded_without_listeners_or_sound(api, connect, manager):
    await api.running(application="once")
    display = manager.displays["1"]
    await until(lambda: servers(display.directory))
    assert display.sound._recording is None
    ear = Ear(await connect("api/displays/1/sound"))
    async with asyncio.timeout(10):
        await ear.hear(0.5)
    # The tone ends; after what fades away nothing comes.
    begin = time.monotonic()
    last = begin
    coming = ear.ws.read_message()
    while time.monotonic() - last < 1:
        assert time.monotonic() - begin < 10
        if coming.done():
            last, coming = time.monotonic(), ear.ws.read_message()
            await ear.ws.write_message(b"", binary=True)
        await asyncio.sleep(0.02)
    assert display.sound._recording is not None
    ear.ws.close()
    await until(lambda: display.sound._recording is None)


async def test_a_sound_server_runs_while_programs_play(api, manager, monkeypatch):
    monkeypatch.setattr(sound, "_SETTINGS", sound._SETTINGS.replace("exit-idle-time = 30", "exit-idle-time = 1"))
    await api.running(application="once")
    display = manager.displays["1"]
    (first,) = await until(lambda: servers(display.directory))
    await until(lambda: not servers(display.directory))
    environment = {**os.environ, **display.sound.environment}
    await asyncio.to_thread(subprocess.run, ["pactl", "info"], env=environment, check=True)
    assert servers(display.directory) not in ([], [first])


@pytest.mark.parametrize("manager_settings", [{"sound": False}])
async def test_without_sound_programs_find_no_server(api, connect, manager, manager_settings):
    display = await api.running()
    assert display["sound"] is False
    program = manager.displays["1"].processes["application"].pid
    assert "PULSE_" not in Path(f"/proc/{program}/environ").read_text()
    assert await Ear(await connect("api/displays/1/sound")).end() == (4404, "This display has no sound.")


async def test_who_may_not_listen(api, connect, login_cookie):
    await api.running()
    path = "api/displays/1/sound"
    foreign = {"Cookie": login_cookie, "Origin": "https://evil.example"}
    for headers in ({}, {"Authorization": "token foreign"}, foreign):
        assert await refused(connect(path, headers=headers)) == 403
    (await connect(path, headers={"Cookie": login_cookie})).close()
    assert await refused(connect("displays/shared", "A" * 43, "sound", headers={})) == 403
    assert await Ear(await connect("api/displays/77/sound")).end() == (4404, "There is no such display.")


async def test_who_has_a_link_listens_until_it_is_taken_back(api, connect):
    await api.running(application="paplay")
    share = (await api("POST", "1", "shares", body={"mode": "view"}))[1]
    path = ("displays/shared", share["url"].rpartition("/")[2], "sound")
    ear = Ear(await connect(*path, headers={}))
    async with asyncio.timeout(10):
        assert pitch(await ear.hear(1)) == pytest.approx(TONE, rel=0.02)
    assert (await api("DELETE", "1", "shares", share["id"]))[0] == 204
    assert await ear.end() == (4403, "This link was taken back.")
    assert await refused(connect(*path, headers={})) == 403


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_another_user_hears_nothing(api, manager):
    await api.running(application="paplay")
    display = manager.displays["1"]
    directory = display.directory
    await until((directory / "pcm").exists)
    (server,) = servers(directory)
    assert not [path for path in Path(f"/proc/{server}/map_files").iterdir() if "shm" in str(path.readlink())]
    sockets = {str(path.readlink()) for path in Path(f"/proc/{server}/fd").iterdir()}
    for name in ("tcp", "tcp6"):
        lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        assert not {f"socket:[{line.split()[9]}]" for line in lines} & sockets
    knock = """
import socket, sys
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        raise SystemExit("got in by " + path)
    except PermissionError:
        pass
"""
    sockets = [str(directory / name) for name in ("pulse", "pcm")]
    command = ["runuser", "-u", "nobody", "--", "/usr/bin/python3", "-c", knock]
    subprocess.run([*command, *sockets], check=True)
    # Even where the directory let them in, they could play nothing.
    for path in (manager.directory, directory):
        path.chmod(0o755)
    subprocess.run([*command, sockets[0]], check=True)
    for path in (manager.directory, directory):
        path.chmod(0o700)


async def test_a_killed_sound_server_is_said_and_there_is_another(api, connect, manager, tone):
    await api.running(application="paplay")
    directory = manager.displays["1"].directory
    ear = Ear(await connect("api/displays/1/sound"))
    async with asyncio.timeout(10):
        await ear.hear(0.2)
    (server,) = servers(directory)
    os.kill(server, signal.SIGKILL)
    assert await ear.end() == (4503, "The sound server was killed by SIGKILL.")
    environment = {**os.environ, **manager.displays["1"].sound.environment}
    ear = Ear(await connect("api/displays/1/sound"))
    player = subprocess.Popen(["paplay", tone], env=environment)
    async with asyncio.timeout(10):
        assert pitch(await ear.hear(1)) == pytest.approx(TONE, rel=0.02)
    player.kill()
    player.wait()
    assert (await api("GET", "1"))[1]["state"] == "running"


async def test_a_sound_server_that_cannot_start_is_said(api, connect, manager, tmp_path, monkeypatch):
    fake = tmp_path / "bin" / "pulseaudio"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nsleep 0.3\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    await api.running()
    ear = Ear(await connect("api/displays/1/sound"))
    environment = {**os.environ, **manager.displays["1"].sound.environment}
    player = subprocess.Popen(["pactl", "info"], env=environment, stderr=subprocess.DEVNULL)
    assert await ear.end() == (4503, "The sound server ended with exit code 3.")
    assert await asyncio.to_thread(player.wait, 10)


async def test_who_takes_nothing_is_sent_no_more(api, connect):
    await api.running(application="paplay")
    ear = Ear(await connect("api/displays/1/sound"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await ear.hear(100, answers=False)
    assert ear.bytes < 40 * 400
    for _ in range(4):
        await ear.ws.write_message(b"", binary=True)
    async with asyncio.timeout(2):
        await ear.hear(0.5)


async def test_sound_goes_on_when_the_server_was_killed(api, connect, manager, displays_directory):
    await api.running(application="paplay")
    display = manager.displays["1"]
    await until((display.directory / "pcm").exists)
    (server,) = servers(display.directory)
    manager.stop_with_server = False
    await manager.stop()
    os.close(display.lock)
    display.lock = None
    for process in display.sound.close():
        process.close()
    later = DisplayManager(base_url=manager.base_url, config=manager.config, log=manager.log)
    try:
        await later.start()
        again = later.displays["1"]
        assert again.sound.process.pid == server
        os.kill(server, signal.SIGTERM)
        await until(lambda: again.sound.process is None)
        environment = {**os.environ, **again.sound.environment}
        found = await asyncio.to_thread(subprocess.check_output, ["pactl", "info"], env=environment)
        assert b"Default Sink: display" in found
    finally:
        await later.stop()
    assert servers(display.directory) == []
