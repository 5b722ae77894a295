"""Displays as people see and use them: in a real browser, with a real keyboard, through a real hub."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from testinfra.host import Host

from tests.displays import COLOURS, Screen, Wire
from tests.site.browser_user import Person
from tests.site.centre import wait_until

HOME = "/home/alice"
DIRECTORY = "/run/jupyterhub-users/2001/displays"
# The picture that the page shows.
PICTURE = """() => [...document.querySelectorAll(".jp-Display canvas")].find(one => one.offsetParent).toDataURL()"""
# Notes when displays come into a list, go, or are called differently.
WATCH = """() => {
  window.seen = [];
  const look = () => {
    const names = [...document.querySelectorAll(".jp-mod-display .jp-RunningSessions-itemLabel")];
    const text = names.map(name => name.textContent).join();
    if (text !== seen.at(-1)?.[0]) seen.push([text, Date.now()]);
  };
  look();
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""

# Copies a picture of one colour, and returns its bytes as the clipboard has them.
COPY_PICTURE = """async () => {
  const canvas = new OffscreenCanvas(37, 21);
  const context = canvas.getContext("2d");
  context.fillStyle = "#c81e3c";
  context.fillRect(0, 0, 37, 21);
  const picture = await canvas.convertToBlob();
  await navigator.clipboard.write([new ClipboardItem({"image/png": picture})]);
  const [item] = await navigator.clipboard.read();
  return [...new Uint8Array(await (await item.getType("image/png")).arrayBuffer())];
}"""
# Width, height and the first point of the picture that the clipboard has; nothing if it changes while it is read.
LOOK_AT_PICTURE = """async () => {
  const [item] = await navigator.clipboard.read();
  if (!item.types.includes("image/png")) return null;
  const content = await item.getType("image/png").catch(error => {
    if (error.name !== "InvalidStateError") throw error;
  });
  if (!content) return null;
  const picture = await createImageBitmap(content);
  const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
  context.drawImage(picture, 0, 0);
  return [picture.width, picture.height, ...context.getImageData(0, 0, 1, 1).data];
}"""

# Has what a page plays pass by where it can be looked at.
LISTEN = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    if (window.heard?.context !== target.context) {
      window.heard = new AnalyserNode(target.context, {fftSize: 8192});
    }
    connect.call(this, heard);
  }
  return connect.call(this, target, ...rest);
};
"""
# The loudest pitch, if there is any that is not very low in volume.
PITCH = """() => {
  if (!window.heard) return 0;
  const volumes = new Float32Array(heard.frequencyBinCount);
  heard.getFloatFrequencyData(volumes);
  const loudest = volumes.reduce((best, volume, at) => volume > volumes[best] ? at : best, 0);
  return volumes[loudest] > -60 ? loudest * heard.context.sampleRate / heard.fftSize : 0;
}"""


class Displays:
    """The displays of somebody's server, as their pages call them."""

    def __init__(self, host: Host, person: Person) -> None:
        self.host = host
        self.person = person

    def call(self, path: str = "", method: str = "GET", data: Any = None) -> Any:
        """Call the API of displays."""
        status, answer = self.person.ask(f"api/displays{path}", method, data)
        assert status < 300, (status, answer)
        return answer

    def start(self, application: str) -> str:
        """Start a display and return its number when it runs and its window is there."""
        number: str = self.call("", "POST", {"application": application, "width": 1100, "height": 700})["id"]
        wait_until(lambda: self.call(f"/{number}")["state"] == "running", "a display that runs")
        # Neither a clock nor a desktop wants keys.
        what = "_NET_CLIENT_LIST" if application in ("clock", "desktop") else "_NET_ACTIVE_WINDOW"
        command = f"{self.on_screen(number)} xprop -root {what}"
        wait_until(lambda: re.search("0x[1-9a-f]", self.host.run(command).stdout), f"a window of {application}")
        return number

    def on_screen(self, number: str) -> str:
        """Return what, before a command, has it use the screen of a display."""
        screen = f"DISPLAY=:{self.record(number)['number']} XAUTHORITY={DIRECTORY}/{number}/xauthority"
        # With the /tmp of the server, where the X server's socket is.
        return f"nsenter --mount --target $(pgrep -o -u alice -f bin/jupyterhub-) -- env {screen}"

    def record(self, number: str) -> Any:
        """Return what the server has written down of a display."""
        return json.loads(self.host.check_output(f"cat {DIRECTORY}/{number}/display.json"))

    def show(self, number: str) -> Locator:
        """Open the page of a display and wait for its screen."""
        self.person.page.goto(f"/user/{self.person.user}/displays/{number}")
        return painted(self.person.page)

    def edit(self) -> tuple[str, str]:
        """Start an editor with an empty file in a page of its own; return its display and the path of the file."""
        empty = "install -o alice -m 600 /dev/null"
        self.host.check_output(f"for number in 1 2 3; do {empty} {HOME}/notes-$number; done")
        number = self.start("editor")
        click(self.show(number))
        return number, f"{HOME}/notes-{number}"

    def wait_for_none(self) -> None:
        """Wait until there is no display any more: pages are told when one begins to end."""
        wait_until(lambda: not self.call()["displays"], "a list without displays")

    def save(self, path: str, text: str, save: Callable[[], None] | None = None) -> None:
        """Have an editor save its text, with Ctrl+S unless said otherwise, until it is the expected one."""
        end = time.monotonic() + 30
        read = ""
        while read != text and time.monotonic() < end:
            # A program that is busy, or waits for the clipboard, sees a key later than a tester's next one.
            (save or partial(self.person.page.keyboard.press, "Control+s"))()
            time.sleep(0.3)
            read = str(self.host.run(f"cat {path}").stdout).removesuffix("\n")
        assert read == text


def painted(page: Page) -> Locator:
    """Return the display that a page shows, when its screen is there."""
    viewer = page.locator(".jp-Display[data-painted]:visible")
    expect(viewer).to_be_visible()
    expect(viewer.locator(".jp-Display-overlay")).to_be_hidden()
    return viewer


def click(viewer: Locator) -> None:
    """Click into the middle of a screen, which then has the keys."""
    viewer.locator("canvas").last.click()
    expect(viewer.locator("textarea.jp-Display-input")).to_be_focused()


@pytest.fixture(scope="module")
def alice(host: Host, browser: Browser, wire: Wire) -> Iterator[Person]:
    """Alice, who has logged in and lets her browser have the clipboard."""
    person = Person(browser, wire.url, "alice", "alice-secret")
    person.context.grant_permissions(["clipboard-read", "clipboard-write"])
    person.start_lab()
    yield person
    stop(person)
    host.run(f"rm -rf {HOME}/notes-* {HOME}/Desktop/*.bin")


def stop(person: Person) -> None:
    """Stop a server, by the hub's page."""
    # Its script, without which the button does nothing, is loaded late.
    person.page.goto("/hub/home", wait_until="networkidle")
    person.page.locator("#stop").click()
    expect(person.page.locator("#stop")).to_be_hidden()
    person.leave()


@pytest.fixture
def displays(host: Host, alice: Person, wire: Wire) -> Iterator[Displays]:
    """The displays of alice, of which there are none before a test and after it."""
    yield Displays(host, alice)
    wire.mend()
    wire.delay = 0.0
    # A page without a display.
    alice.page.goto("/user/alice/displays/0")
    alice.ask("api/displays", "DELETE")


# Where displays are started and found


def test_launcher_starts_a_desktop_that_fills_its_tab(host: Host, alice: Person, displays: Displays) -> None:
    """The launcher has what the site offers; the desktop has the size of the tab, and an icon that opens a window."""
    alice.open_lab()
    page = alice.page
    cards = page.locator(".jp-LauncherCard[data-category='Displays']")
    expect(cards).to_have_text(["Desktop", "Terminal", "Uhr & Часы", "Editor"])
    alice.picture("displays-launcher")
    cards.filter(has_text="Desktop").click()
    viewer = painted(page)
    expect(page.locator(".lm-TabBar-tab.lm-mod-current .lm-TabBar-tabLabel", has_text="Desktop")).to_be_visible()
    wait_until(lambda: page.evaluate(COLOURS) > 8, "a panel, and icons")
    for width, height in ((1000, 640), (1200, 750)):
        page.set_viewport_size({"width": width, "height": height})
        stage = viewer.locator(".jp-Display-stage").bounding_box()
        assert stage
        expect(viewer).to_have_attribute("data-size", f"{int(stage['width'])}x{int(stage['height'])}")
    windows = f"{displays.on_screen('1')} xwininfo -root -tree"
    viewer.locator("canvas").last.dblclick(position={"x": 60, "y": 65})
    wait_until(lambda: '"thunar"' in host.run(windows).stdout.lower(), "a window of the file manager")

    def still() -> bool:
        before = page.evaluate(PICTURE)
        time.sleep(1)
        return bool(page.evaluate(PICTURE) == before)

    # While it starts, the panel is laid out several times.
    wait_until(still, "a desktop that has settled")
    alice.picture("displays-desktop")
    viewer.get_by_role("button", name="Keys").click()
    expect(viewer.locator("dialog")).to_contain_text("Ctrl+Alt+Del")
    alice.picture("displays-keys")
    viewer.locator("dialog").get_by_role("button", name="Close").click()


@pytest.mark.one_host
def test_screen_has_the_pixels_of_the_monitor(alice: Person, displays: Displays, browser: Browser) -> None:
    """On a monitor with twice as many, the picture is as sharp as the text around it."""
    number = displays.start("clock")
    context = browser.new_context(
        base_url=alice.page.url,
        storage_state=alice.context.storage_state(),
        viewport={"width": 600, "height": 400},
        device_scale_factor=2,
    )
    page = context.new_page()
    page.goto(f"/user/alice/displays/{number}")
    viewer = painted(page)

    def pixels() -> str:
        # The toolbar, in two rows here since the bar of limits is in it, leaves the rest to the screen.
        box = viewer.get_by_role("img", name="Screen of the display").bounding_box() or {"width": 0, "height": 0}
        return f"{2 * box['width']:.0f}x{2 * box['height']:.0f}"

    wait_until(lambda: viewer.get_attribute("data-size") == pixels(), "a picture of the monitor's pixels")
    wait_until(lambda: "{width}x{height}".format(**displays.call(f"/{number}")) == pixels(), "the size in the list")
    assert pixels().startswith("1200x7")
    context.close()


@pytest.mark.one_host
def test_new_menu_of_notebook_starts_a_display(alice: Person, displays: Displays) -> None:
    """It opens in a tab of the browser, and the tab's title is the display's."""
    page = alice.page
    page.goto("/user/alice/tree")
    page.get_by_role("menuitem", name="New", exact=True).click()
    with alice.context.expect_page() as opened:
        page.get_by_role("menuitem", name="Display: Terminal").click()
    painted(opened.value)
    expect(opened.value).to_have_title("Terminal")
    assert opened.value.url.endswith("/user/alice/displays/1")
    assert [one["application"] for one in displays.call()["displays"]] == ["terminal"]
    opened.value.close()


@pytest.mark.one_host
def test_palette_starts_renames_and_shuts_down(alice: Person, displays: Displays) -> None:
    """Commands are about the display in front, whose tab says what became of it."""
    alice.open_lab()
    page = alice.page

    def choose(command: str) -> None:
        # By the menu: a display has all keys for itself.
        page.get_by_role("menuitem", name="View", exact=True).click()
        page.get_by_role("menuitem", name="Activate Command Palette").click()
        page.locator(".lm-CommandPalette-input").fill(command)
        page.locator(".lm-CommandPalette-item.lm-mod-active", has_text=command).click()

    choose("New display: Terminal")
    viewer = painted(page)
    choose("Rename display")
    title = "Расчёт № 7"
    page.locator(".jp-Dialog input").fill(title)
    page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(page.locator(".lm-TabBar-tab.lm-mod-current .lm-TabBar-tabLabel", has_text=title)).to_be_visible()
    expect(viewer.locator(".jp-Display-title")).to_have_text(title)
    choose("Shut down display")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(page.locator(".jp-Display-status")).to_contain_text("It was shut down.")
    displays.wait_for_none()


@pytest.mark.one_host
def test_running_lists_opens_and_shuts_down(alice: Person, displays: Displays) -> None:
    """With a picture of the screen, the size and who looks; one is shut down, and all."""
    displays.start("desktop")
    displays.start("editor")
    alice.open_lab()
    page = alice.page
    page.locator("li[data-id='jp-running-sessions']").click()
    items = page.locator(".jp-mod-display")
    expect(items).to_have_count(2)
    expect(items.first).to_contain_text("1100×700")
    items.first.locator(".jp-RunningSessions-itemLabel").hover()
    picture = page.locator(".jp-Display-picture")
    expect(picture).to_be_visible()
    wait_until(lambda: picture.evaluate("picture => picture.naturalWidth") >= 320, "a picture of the screen")
    alice.picture("displays-running")
    items.last.locator(".jp-RunningSessions-itemLabel").click()
    painted(page)
    expect(items.last).to_contain_text("· alice")
    facts = page.locator(".jp-mod-display .jp-RunningSessions-itemDetail")
    cut_off = facts.evaluate_all("facts => facts.filter(one => one.scrollWidth > one.clientWidth).length")
    assert cut_off == 0, "the facts do not fit into the side bar"
    # Who closes a tab looks no more, and can open it again.
    page.locator(".lm-TabBar-tab.lm-mod-current", has_text="Editor").locator(".lm-TabBar-tabCloseIcon").click()
    expect(items.last).not_to_contain_text("· alice")
    items.last.locator(".jp-RunningSessions-itemLabel").click()
    painted(page)
    items.first.hover()
    items.first.locator(".jp-RunningSessions-itemShutdown").click()
    expect(items).to_have_count(1)
    expect(items).to_contain_text("Editor")
    page.get_by_label("Displays toolbar").get_by_text("Shut down all").click()
    page.locator(".jp-Dialog .jp-mod-warn").click()
    expect(items).to_have_count(0)
    expect(page.locator(".jp-Display-status")).to_contain_text("It was shut down.")


@pytest.mark.one_host
def test_every_page_learns_at_once(host: Host, alice: Person, displays: Displays, browser: Browser) -> None:
    """A display that starts, is renamed, dies or is shut down: Lab and Notebook show it before they would next ask."""
    alice.open_lab()
    lab = alice.page
    lab.locator("li[data-id='jp-running-sessions']").click()
    # Another window, of which the first one is no part.
    other = browser.new_context(base_url=lab.url, storage_state=alice.context.storage_state())
    notebook = other.new_page()
    notebook.goto("/user/alice/tree")
    notebook.get_by_role("tab", name="Running").click()
    for page in (lab, notebook):
        expect(page.get_by_text("Displays").locator("visible=true").first).to_be_visible()
        page.evaluate(WATCH)

    # JupyterLab asks for its own lists every ten seconds.
    def seen_at_once(since: float, text: str) -> None:
        for page in (lab, notebook):
            wait_until(lambda: page.evaluate("seen.at(-1)[0]") == text, f"a list of {text!r}", 10)  # noqa: B023
            assert page.evaluate("seen.at(-1)[1]") - since < 5000

    def now() -> float:
        return time.time() * 1000

    since = now()
    first = displays.call("", "POST", {"application": "clock"})["id"]
    seen_at_once(since, "Uhr & Часы")
    wait_until(lambda: displays.call(f"/{first}")["state"] == "running", "a display that runs")
    since = now()
    displays.call(f"/{first}", "PATCH", {"title": "Clock"})
    seen_at_once(since, "Clock")
    process = displays.record(first)["x_pid"]
    since = now()
    host.check_output(f"kill -KILL {process}")
    seen_at_once(since, "")
    about = displays.call(f"/{first}")
    assert (about["state"], about["reason"]) == ("failed", "The X server was killed by SIGKILL.")
    second = displays.call("", "POST", {"application": "clock"})["id"]
    seen_at_once(now(), "Uhr & Часы")
    since = now()
    displays.call(f"/{second}", "DELETE")
    seen_at_once(since, "")
    other.close()


# Keys


def every_key(screen: Screen) -> None:
    """Press keys as people of four countries do, and switch between them in the middle of a word."""
    rows = ["`1234567890-=", "qwertyuiop[]\\", "asdfghjkl;'", "zxcvbnm,./"]
    for layout in ("us", "ru"):
        screen.switch_to(layout)
        for row in rows:
            for held in ((), ("shift",)):
                for key in row:
                    screen.press(key, *held)
        screen.press(" ")
        screen.press("enter")
    screen.switch_to("de")
    for key in "[;'-zy":
        screen.press(key)
        screen.press(key, "shift")
    for key in "qe78":  # @ € { [
        screen.press(key, "altgr")
    # Dead keys: the acute and the circumflex.
    for dead, letter in (("=", "a"), ("`", "o")):
        screen.press(dead)
        screen.press(letter)
    screen.press("enter")
    screen.switch_to("fr")
    for key in "1234567890qa":
        screen.press(key)
    for key in "03":  # @ #
        screen.press(key, "altgr")
    for letter in "eu":
        screen.press("[")
        screen.press(letter)
    screen.press("enter")
    for layout, keys in (("us", "fil"), ("ru", "ab"), ("us", "e"), ("ru", "qw"), ("us", "d"), ("de", ";"), ("us", "n")):
        screen.switch_to(layout)
        for key in keys:
            screen.press(key)
    for key in ("compose", "o", "e"):
        screen.press(key)


def test_what_is_on_the_keys_arrives(alice: Person, displays: Displays, screen: Screen) -> None:
    """What the same keys make in a field of the same browser, and Ctrl+S on a Cyrillic layout is Ctrl+S."""
    page = alice.page
    page.goto("about:blank")
    page.set_content("<textarea></textarea>")
    field = page.locator("textarea")
    field.focus()
    every_key(screen)
    meant = field.input_value()
    printable = {chr(code) for code in range(0x20, 0x7F)}
    assert printable < set(meant)
    assert set("абвгдеёжзийклмнопрстуфхцчшщъыьэюяАБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ№") < set(meant)
    assert set("äöüßÄÖÜ€áôéèçàêû") < set(meant)
    assert meant.endswith("filфиeйцdönœ")
    page.goto("/user/alice/displays/0")
    _, path = displays.edit()
    every_key(screen)
    screen.switch_to("ru")
    displays.save(path, meant, lambda: screen.press("s", "control"))
    screen.switch_to("us")


# Clipboards and files


def test_clipboards_are_one(alice: Person, displays: Displays, screen: Screen) -> None:
    """What was copied in the browser is pasted in the display, and the other way round."""
    page = alice.page
    _, path = displays.edit()
    text = "Из браузера: ß, 漢字 и 5 €"
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    screen.press("v", "control")
    displays.save(path, text)
    for key in "end":
        screen.press(key)
    screen.press("a", "control")
    screen.press("c", "control")
    wait_until(lambda: page.evaluate("navigator.clipboard.readText()") == f"{text}end", "the text of the display")


def test_a_long_text_is_pasted_whole(host: Host, alice: Person, displays: Displays, screen: Screen) -> None:
    number, _ = displays.edit()
    alice.page.evaluate("navigator.clipboard.writeText('0123456789'.repeat(30000))")
    screen.press("v", "control")
    length = f"{displays.on_screen(number)} timeout 5 xclip -selection clipboard -out | wc -c"
    wait_until(lambda: host.run(length).stdout.strip() == "300000", "the browser's text")


@pytest.mark.one_host
def test_pictures_are_copied_too(host: Host, alice: Person, displays: Displays, screen: Screen) -> None:
    """A program of the display gets what the browser has, byte for byte, and the browser what a program has copied."""
    page = alice.page
    number, _ = displays.edit()
    if displays.call(f"/{number}")["engine"] == "tigervnc":
        pytest.skip("the clipboard of TigerVNC has text alone")
    copied = bytes(page.evaluate(COPY_PICTURE))
    screen.press("v", "control")
    x = displays.on_screen(number)
    paste = f"{x} timeout 5 xclip -selection clipboard -target image/png -out | base64 -w0"
    wait_until(lambda: base64.b64decode(host.run(paste).stdout) == copied, "the browser's picture")
    page.evaluate("navigator.clipboard.writeText('')")
    copy = f"{x} xclip -selection clipboard -target image/png >/dev/null 2>&1"
    host.check_output(f"echo {base64.b64encode(copied).decode()} | base64 -d | {copy}")
    wait_until(lambda: page.evaluate(LOOK_AT_PICTURE) == [37, 21, 200, 30, 60, 255], "the display's picture")


@pytest.mark.one_host
def test_full_screen(alice: Person, displays: Displays, browser: Browser) -> None:
    """The display has all of the window; the toolbar comes out at its upper edge and gives it back."""
    number = displays.start("clock")
    context = browser.new_context(
        base_url=alice.page.url, storage_state=alice.context.storage_state(), no_viewport=True
    )
    page = context.new_page()
    page.goto(f"/user/alice/displays/{number}")
    viewer = painted(page)
    width, height = page.evaluate("[innerWidth, innerHeight]")
    expect(viewer).to_have_attribute("data-size", f"{width}x{height - 28}")
    button = viewer.get_by_role("button", name="Full screen")
    button.click()
    expect(viewer).to_have_attribute("data-size", f"{width}x{height}")
    assert page.evaluate("document.fullscreenElement.className") == "jp-Display"
    toolbar = viewer.get_by_role("toolbar")
    expect(toolbar).to_have_css("opacity", "0")
    # Nobody hits the very first line of the screen.
    page.mouse.move(width / 2, 5)
    expect(toolbar).to_have_css("opacity", "1")
    assert toolbar.evaluate("toolbar => toolbar.getBoundingClientRect().toJSON()")["bottom"] == 28
    button.click()
    expect(viewer).to_have_attribute("data-size", f"{width}x{height - 28}")
    context.close()


@pytest.mark.one_host
def test_files_go_to_the_desktop_and_back(host: Host, alice: Person, displays: Displays, tmp_path: Path) -> None:
    """Byte for byte; what is there already is not overwritten."""
    number = displays.start("clock")
    viewer = displays.show(number)
    file = tmp_path / "Данные 1.bin"
    file.write_bytes(bytes(range(256)) * 5000)
    for name in ("Данные 1.bin", "Данные 1 (1).bin"):
        viewer.locator("input[type=file]").set_input_files(file)
        expect(viewer.locator(".jp-Display-notice")).to_contain_text("Uploaded")
        there = host.file(f"{HOME}/Desktop/{name}")
        wait_until(lambda: there.exists and there.size == file.stat().st_size, name)  # noqa: B023
        assert there.sha256sum == hashlib.sha256(file.read_bytes()).hexdigest()
    viewer.get_by_role("button", name="Files").click()
    with alice.page.expect_download() as download:
        viewer.get_by_role("link", name="Данные 1 (1).bin").click()
    assert download.value.path().read_bytes() == file.read_bytes()


# Others


@pytest.mark.one_host
def test_two_displays_do_not_mix(alice: Person, displays: Displays) -> None:
    """Each has its own keys and its own picture."""
    _, first = displays.edit()
    number = displays.start("editor")
    page = alice.context.new_page()
    page.goto(f"/user/alice/displays/{number}")
    click(painted(page))
    for who, text in ((alice.page, "one"), (page, "two"), (alice.page, "1"), (page, "2")):
        who.bring_to_front()
        who.keyboard.type(text)
    for who, file, text in ((alice.page, first, "one1"), (page, f"{HOME}/notes-{number}", "two2")):
        who.bring_to_front()
        displays.save(file, text, partial(who.keyboard.press, "Control+s"))
    page.close()


@pytest.mark.attack
@pytest.mark.one_host
@pytest.mark.parametrize("mode", ["view", "control"])
def test_somebody_with_a_link(alice: Person, displays: Displays, browser: Browser, mode: str) -> None:
    """They see the screen without an account; their keys arrive if that was said; the end comes at once."""
    number, path = displays.edit()
    viewer = painted(alice.page)
    viewer.get_by_role("button", name="Share").click()
    dialog = viewer.locator("dialog")
    dialog.get_by_role("button", name="View only" if mode == "view" else "View and control").click()
    url = dialog.locator("input").input_value()
    assert re.search(r"/displays/shared/[\w-]{43}$", url)
    nobody = browser.new_context()
    guest = nobody.new_page()
    guest.goto(url)
    shown = painted(guest)
    wait_until(lambda: guest.evaluate(COLOURS) > 4, "a picture")
    wait_until(lambda: len(displays.call(f"/{number}")["viewers"]) == 2, "two who look")
    assert sorted(one["mode"] for one in displays.call(f"/{number}")["viewers"]) == sorted(["control", mode])
    guest.bring_to_front()
    shown.locator("canvas").last.click()
    guest.keyboard.type("guest")
    time.sleep(1)
    alice.page.bring_to_front()
    dialog.get_by_role("button", name="Take back").click()
    expect(guest.locator(".jp-Display-status")).to_contain_text("This link was taken back.")
    assert guest.goto(url).status == 404  # type: ignore[union-attr]
    nobody.close()
    dialog.get_by_role("button", name="Close").click()
    click(viewer)
    alice.page.keyboard.type("alice")
    displays.save(path, "alice" if mode == "view" else "guestalice")


def test_what_programs_play_is_heard_where_it_is_switched_on(
    host: Host, alice: Person, displays: Displays, browser: Browser
) -> None:
    """By the owner, and by somebody with a link who only looks; a sound server that was killed is said."""
    number = displays.start("terminal")
    url = displays.call(f"/{number}/shares", "POST", {"mode": "view"})["url"]
    guests = browser.new_context(base_url=alice.page.url, locale="ru-RU")
    pages = [alice.context.new_page(), guests.new_page()]
    buttons = []
    for page, address, label in zip(pages, (f"/user/alice/displays/{number}", url), ("Sound", "Звук"), strict=True):
        page.add_init_script(LISTEN)
        page.goto(address)
        buttons.append(painted(page).get_by_role("button", name=label, exact=True))
        expect(buttons[-1]).to_have_attribute("aria-pressed", "false")
    server = "pgrep -u alice -x pulseaudio"
    assert host.run(server).rc != 0
    samples = "bytes(128 + round(60 * math.sin(math.tau * 440 * at / 44100)) for at in range(5 * 44100))"
    tone = f"/usr/bin/python3 -c 'import math, sys; sys.stdout.buffer.write({samples})' > ~/tone"
    play = f"{tone}; while paplay --raw --rate=44100 --channels=1 --format=u8 ~/tone; do :; done"
    displays.call(f"/{number}/text", "POST", {"text": f"{play}\n"})
    wait_until(lambda: host.run(server).rc == 0, "a sound server, which a program has started")
    for page, button in zip(pages, buttons, strict=True):
        assert page.evaluate(PITCH) == 0
        button.focus()
        page.keyboard.press("Space")
        expect(button).to_have_attribute("aria-pressed", "true")
        wait_until(lambda: 430 < page.evaluate(PITCH) < 450, "a tone of 440 Hz")  # noqa: B023
    expect(buttons[1]).to_have_attribute("title", "Звук включён")
    buttons[0].click()
    expect(buttons[0]).to_have_attribute("aria-pressed", "false")
    host.check_output(f"kill -KILL $({server})")
    expect(pages[1].locator(".jp-Display-notice")).to_have_text("The sound server was killed by SIGKILL.")
    expect(buttons[1]).to_have_attribute("aria-pressed", "false")
    pages[0].close()
    guests.close()
    host.run(f"rm -f {HOME}/tone")


# What goes wrong


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_bad_network(alice: Person, displays: Displays, wire: Wire) -> None:
    """Slow, standing still, broken: keys arrive in order, and the page connects again and says so meanwhile."""
    page = alice.page
    _, path = displays.edit()
    viewer = painted(page)
    wire.delay = 0.1
    page.keyboard.type("a slow network; ", delay=5)
    wire.stall(2)
    page.keyboard.type("one that stands still; ", delay=5)
    displays.save(path, "a slow network; one that stands still; ")
    wire.delay = 0.0
    wire.cut()
    expect(viewer.locator(".jp-Display-status")).to_contain_text("Connection lost. Reconnecting")
    wire.mend()
    expect(viewer.locator(".jp-Display-overlay")).to_be_hidden()
    click(viewer)
    page.keyboard.type("one that broke")
    displays.save(path, "a slow network; one that stands still; one that broke")


@pytest.mark.chaos
@pytest.mark.one_host
def test_hub_restarts(host: Host, alice: Person, displays: Displays) -> None:
    """Nobody's display notices."""
    _, path = displays.edit()
    host.check_output("systemctl restart jupyterhub")
    wait_until(lambda: host.run("curl -sf http://127.0.0.1:980/hub/api").rc == 0, "the hub")
    alice.page.keyboard.type("still here")
    displays.save(path, "still here")
    painted(alice.page)


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_display_that_dies_says_why_and_is_started_anew(host: Host, alice: Person, displays: Displays) -> None:
    """In the tab of its own, by a click."""
    number = displays.start("clock")
    viewer = displays.show(number)
    processes = displays.record(number)["processes"]
    host.check_output(f"kill -KILL {processes.get('server', processes['x'])[0]}")
    expect(viewer.locator(".jp-Display-status")).to_contain_text("was killed by SIGKILL")
    viewer.get_by_role("button", name="Restart").click()
    expect(alice.page).to_have_url(re.compile("/displays/2$"))
    painted(alice.page)
    assert [one["application"] for one in displays.call()["displays"] if one["state"] == "running"] == ["clock"]


@pytest.mark.one_host
def test_toolbar_shuts_down(displays: Displays) -> None:
    """After a question."""
    viewer = displays.show(displays.start("clock"))
    viewer.get_by_role("button", name="Shut down").click()
    viewer.locator("dialog").get_by_role("button", name="Shut down").click()
    expect(viewer.locator(".jp-Display-status")).to_contain_text("It was shut down.")
    displays.wait_for_none()


@pytest.mark.one_host
def test_an_idle_display_is_ended_though_its_page_is_open(host: Host, browser: Browser, wire: Wire) -> None:
    """Keys and pointer are what counts."""
    settings = {"DisplayManager": {"idle_timeout": 10, "check_interval": 0.5}}
    file = "/home/bob/.jupyter/jupyter_displays_config.json"
    write = f"mkdir -p ~/.jupyter && echo {shlex.quote(json.dumps(settings))} > {file}"
    host.check_output(f"runuser -u bob -- sh -c {shlex.quote(write)}")
    bob = Person(browser, wire.url, "bob", "bob-secret")
    try:
        bob.start_lab()
        displays = Displays(host, bob)
        number = displays.call("", "POST", {"application": "clock"})["id"]
        viewer = displays.show(number)
        click(viewer)
        for _ in range(7):
            bob.page.keyboard.press("x")
            time.sleep(2)
        assert displays.call(f"/{number}")["state"] == "running"
        expect(viewer.locator(".jp-Display-status")).to_contain_text("Nobody used it for 10 s.", timeout=30_000)
    finally:
        host.run(f"rm -f {file}")
        stop(bob)
