"""A display's page in a real Chromium, against a server and displays that are real, too."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from functools import partial

import pytest

from jupyter_displays.engines import ENGINES

playwright = pytest.importorskip("playwright.async_api", reason="not installed: playwright")
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
]


@pytest.fixture
def usable_engine(usable_engine):
    if not shutil.which("chromium"):
        pytest.skip("not installed: chromium")
    return usable_engine


async def until(condition, what, seconds=15):
    """Wait for a condition and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)
    return found


class Browser:
    """A browser in which the user is logged in."""

    def __init__(self, context, url):
        self.context = context
        self.url = url

    async def open(self, path):
        """Open a page and wait for its screen."""
        page = await self.context.new_page()
        await page.goto(f"{self.url}{path}")
        await playwright.expect(page.locator(".jp-Display[data-painted]")).to_be_visible()
        return page


@pytest.fixture
def browser(api, login_cookie, jp_http_port, jp_base_url, jp_asyncio_loop):
    url = f"http://127.0.0.1:{jp_http_port}"
    name, value = login_cookie.split("=", 1)

    async def start():
        driver = await playwright.async_playwright().start()
        chromium = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        context = await chromium.new_context(viewport={"width": 800, "height": 600})
        await context.add_cookies([{"name": name, "value": value.strip('"'), "url": url}])
        await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        return driver, chromium, context

    async def end():
        await chromium.close()
        await driver.stop()

    driver, chromium, context = jp_asyncio_loop.run_until_complete(start())
    yield Browser(context, f"{url}{jp_base_url}")
    jp_asyncio_loop.run_until_complete(end())


def environment(display):
    """Return what a program needs to use the screen of a display."""
    return {
        "DISPLAY": f":{display.number}",
        "XAUTHORITY": str(display.screen.authority),
        "PATH": os.environ["PATH"],
    }


async def x_run(display, *command, data=None):
    """Run a program of X in a display, and return what it writes."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment(display),
        stdin=asyncio.subprocess.PIPE if data is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            return (await process.communicate(data))[0]
    process.kill()
    return b""


# xclip hands over up to a megabyte at once, and more in pieces to one at a time; xsel anything in pieces.
AT_ONCE = ("xclip", "-selection", "clipboard", "-in", "-quiet")
IN_PIECES = ("xsel", "--clipboard", "--input", "--nodetach")


@contextlib.asynccontextmanager
async def copied(display, command, text):
    """Have a program of a display copy a text, which it hands over as long as it is not ended."""
    program = await asyncio.create_subprocess_exec(
        *command, env=environment(display), stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    program.stdin.write(text.encode())
    program.stdin.close()
    yield
    # xsel ends by itself when the window that it has served goes away.
    with contextlib.suppress(ProcessLookupError):
        program.kill()
    await program.wait()


def lines(length):
    """Return a text of about this many characters, which is no other's beginning."""
    return f"{length}: " + "Zeile, ß\n" * (length // 9)


async def refused_as_too_long(page):
    notice = page.locator(".jp-Display-notice")
    await playwright.expect(notice).to_contain_text("too long for the clipboard", timeout=20_000)


@pytest.mark.parametrize("engine", ENGINES)
async def test_texts_of_a_display_arrive_whole_or_are_missed(api, browser, manager, engine):
    await api.running(width=800, height=600)
    page = await browser.open("displays/1")
    display = manager.displays["1"]
    for command, length in ((AT_ONCE, 1_000), (AT_ONCE, 400_000), (AT_ONCE, 5_000_000), (IN_PIECES, 400_000)):
        text = lines(length)
        same = "text => navigator.clipboard.readText().then(read => read === text)"
        async with copied(display, command, text):
            await until(partial(page.evaluate, same, text), f"{length} characters of {command[0]}")
        await page.evaluate("navigator.clipboard.writeText('')")
    # What is only marked is not copied.
    async with copied(display, ("xclip", "-selection", "primary", "-in", "-quiet"), "marked"):
        await asyncio.sleep(1)
        assert await page.evaluate("navigator.clipboard.readText()") == ""
    async with copied(display, AT_ONCE, "x" * 20_000_000):
        await refused_as_too_long(page)


@pytest.mark.parametrize("engine", ENGINES)
async def test_texts_of_the_browser_arrive_whole_or_are_refused(api, browser, manager, engine):
    await api.running(width=800, height=600)
    page = await browser.open("displays/1")
    await page.locator(".jp-Display canvas").last.click()
    for length in (1_000, 400_000, 5_000_000):
        text = lines(length)
        await page.evaluate("text => navigator.clipboard.writeText(text)", text)
        await page.keyboard.press("Control+v")

        async def arrived(text=text):
            return await x_run(manager.displays["1"], "xclip", "-selection", "clipboard", "-out") == text.encode()

        await until(arrived, f"a text of {length} characters")
    await page.evaluate("navigator.clipboard.writeText('x'.repeat(9_000_000))")
    await page.keyboard.press("Control+v")
    await refused_as_too_long(page)
    assert await arrived()


async def keep(api, manager, tmp_path):
    """Start a terminal that keeps what is typed into it."""
    script = f"stty -echo -icanon min 1; echo; cat > {tmp_path}/typed"
    command = ["xterm", "-u8", "-maximized", "-e", "sh", "-c", script]
    manager.applications["keep"] = {"title": "Keep", "command": command}
    return await api.running(application="keep", width=800, height=600)


async def has_typed(tmp_path, text):
    return (tmp_path / "typed").read_text(encoding="utf-8", errors="replace") == text


@pytest.mark.parametrize("engine", ENGINES)
async def test_many_characters_without_a_key_are_typed(api, browser, tmp_path, manager, engine):
    await keep(api, manager, tmp_path)
    page = await browser.open("displays/1")
    await until(lambda: asyncio.to_thread((tmp_path / "typed").exists), "a terminal")
    await page.locator(".jp-Display canvas").last.click()
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 100)))
    for character in text:
        await page.keyboard.insert_text(character)
    await until(partial(has_typed, tmp_path, text), "all characters", 60)


async def test_keys_that_the_browser_takes_are_in_the_toolbar(api, browser, tmp_path, manager):
    await keep(api, manager, tmp_path)
    page = await browser.open("displays/1")
    await until(lambda: asyncio.to_thread((tmp_path / "typed").exists), "a terminal")
    await page.locator(".jp-Display canvas").last.click()
    for name in ("Ctrl+W", "Ctrl+Alt+Del", "Ctrl+T"):
        await page.get_by_role("button", name="Keys").click()
        await page.get_by_role("button", name=name, exact=True).click()
    # What xterm sends for them.
    expected = "\x17\x1b[3;7~\x14"
    await until(partial(has_typed, tmp_path, expected), "the keys")
    await page.keyboard.type("x")
    await until(partial(has_typed, tmp_path, f"{expected}x"), "a key with nothing held")


async def test_a_page_says_that_a_display_starts(api, browser, manager):
    manager.applications["late"] = {"title": "Late", "command": ["sh", "-c", "sleep 3; exec xterm"]}
    await api.running(application="late", width=800, height=600)
    page = await browser.open("displays/1")
    status = page.locator(".jp-Display-status")
    await playwright.expect(status).to_be_visible()
    await playwright.expect(status).to_have_text("Starting…")
    assert not (await api("GET", "1"))[1]["shown"]
    await playwright.expect(status).to_be_hidden()
    assert (await api("GET", "1"))[1]["shown"]
    # Whoever comes later sees the screen at once.
    page = await browser.open("displays/1")
    await playwright.expect(page.locator(".jp-Display-status")).to_be_hidden(timeout=100)
