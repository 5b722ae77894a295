"""Programs of which a user can have one at a time: a window in the display that asked for it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
from pathlib import Path

import pytest

from jupyter_displays import programs, x11

HOST = socket.gethostname()
SETTINGS = ".local/share/jupyter_displays"
CHROMIUM = ["chromium", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.fixture
def home(jp_environ, jp_home_dir, monkeypatch):
    """A home that a site may have on several hosts."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return jp_home_dir


@pytest.fixture
def applications():
    return {"browser": {"title": "Browser", "command": [*CHROMIUM, "about:blank"]}}


async def windows(manager, display_id, seconds=30):
    """Return how many windows of Chromium there are in a display, as soon as there is one."""
    display = manager.displays[display_id]
    for _ in range(seconds * 10):
        if await asyncio.to_thread(x11.has_window, display.number, display.screen.authority):
            return True
        await asyncio.sleep(0.1)
    return False


def environment(display):
    """Return what the programs of a display have."""
    facts = Path(f"/proc/{display.processes['application'].pid}/environ").read_bytes().decode()
    return dict(fact.split("=", 1) for fact in facts.split("\0") if fact)


def singletons(home):
    """Return the directories that a Chromium of this host has its settings in."""
    found = [Path(place) for place, _, names in os.walk(home) if "SingletonLock" in names]
    here = [place for place in found if str((place / "SingletonLock").readlink()).startswith(f"{HOST}-")]
    return sorted(str(place.relative_to(home)) for place in here)


@pytest.mark.skipif(not shutil.which("chromium"), reason="not installed: chromium")
async def test_two_displays_have_a_browser_each(api, manager, home):
    for number in ("1", "2"):
        await api.running(application="browser")
        assert await windows(manager, number)
    both = [".config/chromium", f"{SETTINGS}/chromium-2"]
    assert singletons(home) == both
    # A second start in a display is a window of the first one's.
    again = await asyncio.create_subprocess_exec(*CHROMIUM, "about:blank", env=environment(manager.displays["2"]))
    assert await asyncio.wait_for(again.wait(), 30) == 0
    assert singletons(home) == both
    # Whoever comes next has what is free again.
    await api("DELETE", "1")
    await api.running(application="browser")
    assert await windows(manager, "1")
    assert not (home / SETTINGS / "chromium-3.lock").exists()


@pytest.mark.skipif(not shutil.which("chromium"), reason="not installed: chromium")
async def test_another_host_has_the_same_home(api, manager, home):
    """One on which the browser runs, as far as its locks say, and one on which it was killed."""
    own = home / ".config/chromium"
    own.mkdir(parents=True)
    (own / "SingletonLock").symlink_to("elsewhere-4711")
    (home / SETTINGS).mkdir(parents=True)
    record = home / SETTINGS / "chromium-1.lock"
    record.write_text("elsewhere /run/displays/1\n")
    with record.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await api.running(application="browser")
        assert await windows(manager, "1")
        assert singletons(home) == [f"{SETTINGS}/chromium-2"]
    await api("DELETE", "1")
    await api.running(application="browser")
    assert await windows(manager, "1")
    assert ".config/chromium" in singletons(home)


@pytest.fixture
def program(home, tmp_path):
    """A stand-in for a program, which tells what it was called with, and what starts it in a display."""
    system = tmp_path / "system"
    (system / "share/applications").mkdir(parents=True)
    for name in ("firefox-esr", "soffice", "editor"):
        path = system / name
        path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n[ -z "$WAIT" ] || exec sleep 600\n')
        path.chmod(0o755)
        entry = f"[Desktop Entry]\nTryExec={system}/{name}\nExec={system}/{name} %u\nExec=env A=b {name}\n"
        (system / f"share/applications/{name}.desktop").write_text(entry)
    return system


def given(program, display, tmp_path):
    """Return the environment of a display whose programs are stand-ins."""
    directory = tmp_path / display
    directory.mkdir()
    env = os.environ | {"PATH": f"{program}:/usr/bin:/bin", "XDG_DATA_DIRS": f"{program}/share"}
    return env | programs.provide(directory, env) | {"JUPYTER_DISPLAY_DIR": str(directory)}


async def called(env, *command, **more):
    """Return what a program was called with."""
    process = await asyncio.create_subprocess_exec(
        shutil.which(command[0], path=env["PATH"]), *command[1:], env=env | more, stdout=asyncio.subprocess.PIPE
    )
    if more:
        return process, (await process.stdout.readline()).decode().strip()
    return (await process.communicate())[0].decode().split("\n")[:-1]


async def test_settings_that_somebody_names_are_used(program, home, tmp_path):
    first, second = (given(program, name, tmp_path) for name in ("one", "two"))
    running, _ = await called(first, "firefox-esr", "page", WAIT="1")
    own = f"{home}/{SETTINGS}/firefox-2"
    assert await called(first, "firefox-esr", "a b") == ["a b"]
    assert await called(second, "firefox-esr", "a b") == ["--profile", own, "a b"]
    for option in ("-P", "--profile", "--ProfileManager", "--no-remote"):
        assert await called(second, "firefox-esr", option) == [option]
    running.kill()
    await running.wait()
    assert await called(second, "firefox-esr", "page") == ["page"]


async def test_the_office_takes_the_address_of_its_settings(program, home, tmp_path):
    first, second = (given(program, name, tmp_path) for name in ("one", "two"))
    running, _ = await called(first, "soffice", "--writer", WAIT="1")
    option = f"-env:UserInstallation=file://{home}/{SETTINGS}/libreoffice-2"
    assert await called(second, "soffice", "--writer") == [option, "--writer"]
    assert await called(second, "soffice", "-p", "letter.odt") == [option, "-p", "letter.odt"]
    running.kill()
    await running.wait()


async def test_a_home_that_cannot_be_written_stops_no_program(program, home, tmp_path):
    env = given(program, "one", tmp_path)
    (home / ".local").write_text("")
    assert await called(env, "firefox-esr", "page") == ["page"]


async def test_menus_start_the_program_of_the_display(program, home, tmp_path):
    env = given(program, "one", tmp_path)
    share = Path(env["XDG_DATA_DIRS"].split(":")[0])
    assert sorted(path.name for path in (share / "applications").iterdir()) == [
        "firefox-esr.desktop",
        "soffice.desktop",
    ]
    entry = (share / "applications/firefox-esr.desktop").read_text().splitlines()
    started = f"Exec={tmp_path}/one/bin/firefox-esr %u"
    assert entry[1:] == [f"TryExec={program}/firefox-esr", started, "Exec=env A=b firefox-esr"]
    assert not (tmp_path / "one/bin/editor").exists()
