"""Displays as their users, their neighbours and the administrator of a host meet them, through a real hub."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from testinfra.host import Host

from tests.displays import Wire
from tests.site import browser_user

HUB = "http://127.0.0.1:980"
CLIENT = Path(__file__).resolve().parents[2] / "tests" / "hub_client.py"
SETTINGS = "/etc/jupyter/jupyter_displays_config.json"
UIDS = {"alice": 2001, "bob": 2002}
# What no other user may find out is shown to tests as root only.
TOKEN = """
import sys; sys.path.insert(0, "/opt")
from hub_client import Hub
hub = Hub("{hub}", "{user}")
hub.login("{user}-secret")
print(hub.api("/hub/api/users/{user}/tokens", "POST", {{"note": "test"}})["token"])
"""
UPGRADE = (
    "-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13'"
    " -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='"
)
# Prints with which status a stream is opened; the address and other headers come after it.
OPEN = f"curl -s -m 3 -o /dev/null -w '%{{http_code}}' --http1.1 {UPGRADE}"

ApplyRole = Callable[..., subprocess.CompletedProcess[str]]


def until(condition: Callable[[], Any], seconds: float, what: str | Callable[[], Any]) -> Any:
    """Wait for a condition and return what it gave; say what was missing if it does not come true in time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.2)
    return found


def as_user(host: Host, user: str, command: str) -> Any:
    """Run a command as a user of the host, with a shell of their own."""
    return host.run(f"runuser -u {user} -- sh -c {shlex.quote(command)}")


def inside(user: str) -> str:
    """Return what, before a command, has it see the files that a user's server sees, with its own /tmp."""
    return f"nsenter --mount --target $(pgrep -o -u {user} -f bin/jupyterhub-) --"


def processes(host: Host, user: str) -> dict[int, str]:
    """Process ids and commands of a user."""
    listed = host.run(f"ps -u {user} -o pid=,args=").stdout
    return {int(line.split()[0]): line.split(None, 1)[1] for line in listed.splitlines()}


class Person:
    """A user of the hub with a token of theirs, and the displays of their server."""

    def __init__(self, host: Host, user: str) -> None:
        """Log in and start the server."""
        self.host = host
        self.user = user
        self.client("stop")
        assert self.client("start").rc == 0
        code = shlex.quote(TOKEN.format(hub=HUB, user=user))
        self.token = host.check_output(f"/opt/campushub/hub/bin/python -c {code}").strip()

    def client(self, action: str) -> Any:
        """Act at the hub."""
        words = [HUB, self.user, f"{self.user}-secret", action]
        return self.host.run(f"/opt/campushub/hub/bin/python /opt/hub_client.py {shlex.join(words)}")

    @property
    def directory(self) -> str:
        """Where this user's displays have their sockets and authority files."""
        return f"/run/jupyterhub-users/{UIDS[self.user]}/displays"

    def call(self, method: str, path: str = "", body: Any = None, of: str = "", status: int = 200) -> Any:
        """Call the API of displays, of one's own server or of somebody else's, as any program with a token can."""
        data = f"-d {shlex.quote(json.dumps(body))}" if body is not None else ""
        url = f"{HUB}/user/{of or self.user}/api/displays{path}"
        answer = self.host.check_output(
            f"curl -sL -w '\\n%{{http_code}}' -X {method} -H 'Authorization: token {self.token}' {data} {url}"
        )
        text, _, code = answer.rpartition("\n")
        assert int(code) == status, answer
        return json.loads(text) if text.startswith(("{", "[")) else text

    def display(self, application: str, **fields: Any) -> dict[str, Any]:
        """Start a display and wait until it runs."""
        made = self.call("POST", body={"application": application, "width": 1000, "height": 700, **fields}, status=201)
        until(lambda: self.call("GET", f"/{made['id']}")["state"] != "starting", 40, f"display {made} is ready")
        about: dict[str, Any] = self.call("GET", f"/{made['id']}")
        assert about["state"] == "running", about
        return about

    def number(self, display_id: str) -> int:
        """Return the number of the X display."""
        record = json.loads(self.host.check_output(f"cat {self.directory}/{display_id}/display.json"))
        return int(record["number"])

    def windows(self, display_id: str) -> str:
        """Return what windows a display has."""
        authority = f"{self.directory}/{display_id}/xauthority"
        screen = f"DISPLAY=:{self.number(display_id)} XAUTHORITY={authority}"
        command = f"{inside(self.user)} runuser -u {self.user} -- env {screen} xwininfo -root -tree"
        return str(self.host.run(command).stdout)

    def picture(self, display_id: str) -> tuple[int, int, list[bytes]]:
        """Return width, height and lines (3 bytes a point) of the screen's picture."""
        url = f"{HUB}/user/{self.user}/api/displays/{display_id}/screen?width=4096"
        encoded = self.host.check_output(f"curl -sf -H 'Authorization: token {self.token}' '{url}' | base64 -w0")
        return decode_png(base64.b64decode(encoded))


def decode_png(data: bytes) -> tuple[int, int, list[bytes]]:
    """Read a PNG picture as displays make them: 8 bits a colour, and no filters."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body, width, height = 8, b"", 0, 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, chunk = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", chunk)
        body += chunk if kind == b"IDAT" else b""
        at += 12 + size
    raw = zlib.decompress(body)
    step = 1 + 3 * width
    return width, height, [raw[row * step + 1 : (row + 1) * step] for row in range(height)]


def colours(lines: list[bytes]) -> int:
    """Count the colours of a picture."""
    return len({line[at : at + 3] for line in lines for at in range(0, len(line), 3)})


@pytest.fixture(scope="module")
def prepared(host: Host) -> Host:
    """A host with the client of the hub on it."""
    host.run(f"cat > /opt/hub_client.py <<'END_OF_CLIENT'\n{CLIENT.read_text()}\nEND_OF_CLIENT\n")
    return host


@pytest.fixture(scope="module")
def alice(prepared: Host) -> Iterator[Person]:
    """Alice, whose server runs."""
    person = Person(prepared, "alice")
    yield person
    person.client("stop")


@pytest.fixture(scope="module")
def bob(prepared: Host) -> Iterator[Person]:
    """Bob, a curious neighbour with a server of his own."""
    person = Person(prepared, "bob")
    yield person
    person.client("stop")


@pytest.fixture(autouse=True)
def no_displays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test begins and ends without displays."""
    yield
    itself = (test_stop_of_the_server_leaves_nothing, test_desktop_takes_the_place_of_notebooks)
    if "alice" in request.fixturenames and request.function not in itself:
        request.getfixturevalue("alice").call("DELETE", status=204)


@pytest.fixture
def desktop(alice: Person) -> dict[str, Any]:
    """A desktop of alice's."""
    return alice.display("desktop")


def engine(host: Host) -> str:
    """The engine that this host was given."""
    settings: dict[str, Any] = json.loads(host.file(SETTINGS).content_string)
    return str(settings["DisplayManager"]["engine"])


# What the host was given


@pytest.mark.chaos
def test_a_dead_repository_costs_a_later_run_nothing(prepared: Host, apply_role: ApplyRole) -> None:
    """It is asked once, said once, and left alone for a day."""
    if not prepared.file("/var/cache/campushub/campushub-xpra.unreachable").exists:
        pytest.skip("the repository answers")
    begin = time.monotonic()
    done = apply_role()
    assert done.returncode == 0, done.stdout[-3000:]
    assert "does not answer" not in done.stdout + done.stderr
    assert "changed=0" in done.stdout
    assert time.monotonic() - begin < 60


# What people get


def test_what_can_be_started_is_listed(alice: Person) -> None:
    """Desktop, terminal and the site's application, and how many."""
    found = alice.call("GET")
    assert {item["id"]: item["title"] for item in found["applications"]} == {
        "desktop": "Desktop",
        "terminal": "Terminal",
        "clock": "Uhr & Часы",
        "editor": "Editor",
    }
    assert (found["displays"], found["limit"]) == ([], 3)


def test_desktop_has_a_panel_and_a_wallpaper(alice: Person, desktop: dict[str, Any]) -> None:
    """The picture of the screen shows it."""
    assert desktop["engine"] == engine(alice.host)

    def painted() -> bool:
        windows = alice.windows(desktop["id"])
        return (
            all(name in windows for name in ("xfce4-panel", "xfdesktop"))
            and colours(alice.picture(desktop["id"])[2][:30]) > 8
        )

    until(painted, 40, lambda: alice.windows(desktop["id"]))
    width, height, lines = alice.picture(desktop["id"])
    assert (width, height) == (1000, 700)
    # The panel is at the top; below it is one colour, which is not black, and no dialog that asks something.
    assert colours(lines[:24]) > 8
    middle = {lines[row][at : at + 3] for row in range(200, 500) for at in range(1200, 1800, 3)}
    assert len(middle) == 1
    assert middle != {b"\0\0\0"}


@pytest.mark.chaos
@pytest.mark.one_host
def test_desktop_starts_in_a_home_without_room(bob: Person) -> None:
    """Where no file can be made, and no settings of a desktop are."""
    options = f"size=2m,nr_inodes=60,mode=700,uid={UIDS['bob']},gid=$(id -g bob)"
    fill = "cd /home/bob && mkdir fill && touch fill/$(seq -s ' fill/' 100)"
    assert bob.client("stop").rc == 0
    bob.host.check_output(f"mount -t tmpfs -o {options} home /home/bob")
    try:
        assert as_user(bob.host, "bob", fill).rc != 0
        assert bob.client("start").rc == 0
        desktop = bob.display("desktop")
        until(lambda: "xfce4-panel" in bob.windows(desktop["id"]), 40, lambda: bob.windows(desktop["id"]))
    finally:
        bob.client("stop")
        bob.host.run("umount --lazy /home/bob")
        bob.client("start")


@pytest.mark.parametrize(("application", "window"), [("terminal", "erminal"), ("clock", "xclock")])
def test_application_is_started_in_a_display_of_its_own(alice: Person, application: str, window: str) -> None:
    """A terminal, and what the site lists."""
    display = alice.display(application)
    until(lambda: window in alice.windows(display["id"]), 20, lambda: alice.windows(display["id"]))
    until(lambda: colours(alice.picture(display["id"])[2]) > 1, 20, "a picture that is not empty")
    if application == "terminal":
        # A window manager lets it have the whole screen, and the keys.
        shown = r"erminal.*: \(.*\)  1000x6\d\d\+"
        until(lambda: re.search(shown, alice.windows(display["id"])), 10, lambda: alice.windows(display["id"]))


def test_what_is_typed_arrives_in_the_terminal(alice: Person) -> None:
    """With characters of several alphabets, some of which are in no keyboard layout of the site."""
    display = alice.display("terminal")
    until(lambda: "erminal" in alice.windows(display["id"]), 20, "a terminal")
    time.sleep(2)
    alice.host.run("rm -f /home/alice/typed")
    text = "printf %s 'aZ@#€ Привет ß é 日本' > ~/typed"
    alice.call("POST", f"/{display['id']}/text", {"text": f"{text}\n"}, status=204)
    until(lambda: alice.host.file("/home/alice/typed").exists, 10, "the file that the typed command makes")
    assert alice.host.file("/home/alice/typed").content_string == "aZ@#€ Привет ß é 日本"


def test_menu_has_the_application_and_the_desktop_no_lock(alice: Person, desktop: dict[str, Any]) -> None:
    """What an administrator lists is in the menu; nothing locks the screen or asks for the host's power."""
    alice.host.check_output("desktop-file-validate /usr/local/share/applications/campushub-clock.desktop || true")
    assert "Uhr & Часы" in alice.host.file("/usr/local/share/applications/campushub-clock.desktop").content_string
    until(lambda: "xfce4-panel" in alice.windows(desktop["id"]), 40, "the panel")
    time.sleep(2)
    running = " ".join(processes(alice.host, "alice").values())
    for unwanted in ("screensaver", "light-locker", "power-manager", "nm-applet", "blueman", "ssh-agent", "pulseaudio"):
        assert unwanted not in running


@pytest.mark.one_host
def test_there_are_no_more_displays_than_the_limit(alice: Person) -> None:
    """The fourth is refused, with words."""
    for _ in range(3):
        alice.display("clock")
    assert "limit" in alice.call("POST", body={"application": "clock"}, status=409)["message"]
    assert "no application" in alice.call("POST", body={"application": "nonsense"}, status=400)["message"]


def test_sound_servers_are_started_by_no_login(prepared: Host) -> None:
    """Those that users' service managers would start, for everybody who logs in to the host."""
    for unit in ("pulseaudio.socket", "pulseaudio.service"):
        assert prepared.file(f"/usr/lib/systemd/user/{unit}").exists
        assert prepared.run(f"systemctl --global is-enabled {unit}").stdout == "masked\n"


# Limits


def test_display_counts_towards_its_users_limits(alice: Person, desktop: dict[str, Any]) -> None:
    """Each of its processes is in the user's slice; what takes more memory than the user has is killed."""
    until(lambda: "xfce4-panel" in alice.windows(desktop["id"]), 40, "the panel")
    of_display = [
        pid
        for pid in processes(alice.host, "alice")
        if f"JUPYTER_DISPLAY_DIR={alice.directory}" in alice.host.run(f"cat /proc/{pid}/environ").stdout
    ]
    assert len(of_display) > 5
    for pid in of_display:
        assert "jupyterhub-2001.slice" in alice.host.run(f"cat /proc/{pid}/cgroup").stdout, pid
    alice.call("DELETE", status=204)
    display = alice.display("terminal")
    until(lambda: "erminal" in alice.windows(display["id"]), 20, "a terminal")
    alice.host.run("rm -f /home/alice/ready /home/alice/code")

    def shell_listens() -> bool:
        alice.call("POST", f"/{display['id']}/text", {"text": "touch ~/ready\n"}, status=204)
        time.sleep(1)
        return bool(alice.host.file("/home/alice/ready").exists)

    until(shell_listens, 30, "a prompt")
    text = "/usr/bin/python3 -c 'bytearray(1500 * 2**20)'; echo $? > ~/code"
    alice.call("POST", f"/{display['id']}/text", {"text": f"{text}\n"}, status=204)
    code = alice.host.file("/home/alice/code")
    until(lambda: code.exists and code.size, 30, lambda: f"an exit code; {alice.windows(display['id'])}")
    assert alice.host.file("/home/alice/code").content_string == "137\n"
    assert alice.call("GET", f"/{display['id']}")["state"] == "running"


# The neighbour


@pytest.mark.attack
def test_neighbour_reaches_no_socket_and_no_screen(alice: Person, desktop: dict[str, Any]) -> None:
    """Neither the display's socket nor the X server, by whatever name."""
    host, directory = alice.host, f"{alice.directory}/{desktop['id']}"
    assert host.file(f"{directory}/socket").is_socket
    for socket in ("socket", "pulse"):
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({f'{directory}/{socket}'!r})"
        assert as_user(host, "alice", f'/usr/bin/python3 -c "{code}"').rc == 0
        assert "PermissionError" in as_user(host, "bob", f'/usr/bin/python3 -c "{code}"').stderr
    assert as_user(host, "bob", f"ls {alice.directory}").rc != 0
    number = alice.number(desktop["id"])
    assert "xwininfo: Window id" in alice.windows(desktop["id"])
    # Neither the socket nor the lock has a name in a place of everybody's.
    assert host.run(f"ls -d /tmp/.X11-unix/X{number} /tmp/.X{number}-lock").stdout == ""
    # Programs show the cookie to whoever listens at this name, before they try the socket in the file system.
    abstract = f"\\0/tmp/.X11-unix/X{number}"
    refused = as_user(host, "bob", f"/usr/bin/python3 -c 'import socket; socket.socket(1).bind(\"{abstract}\")'")
    assert "Address already in use" in refused.stderr
    for name in (f":{number}", f"unix:{number}", f"localhost:{number}", f"127.0.0.1:{number}"):
        for authority in ("/nonexistent", f"{directory}/xauthority"):
            assert as_user(host, "bob", f"DISPLAY={name} XAUTHORITY={authority} timeout 20 xwininfo -root").rc != 0


@pytest.mark.attack
def test_neighbour_finds_no_port_and_no_abstract_socket(alice: Person, desktop: dict[str, Any]) -> None:
    """No process of a display listens where everybody of the host, or of the network, could knock."""
    until(lambda: "xfce4-panel" in alice.windows(desktop["id"]), 40, "the panel")
    host = alice.host
    mine = processes(host, "alice")
    server = {pid for pid, command in mine.items() if "singleuser" in command}
    doors = set()
    for line in host.check_output("ss -H -l -n -p -t -u").splitlines():
        here = {pid for pid in mine if f"pid={pid}," in line}
        assert here <= server, line
        doors |= {line.split()[4]} if here else set()
    # The user's server listens for the hub's proxy, and asks whoever comes past that who they are.
    assert doors
    for door in doors:
        ways = [("", ""), *((f"/{desktop['id']}/{stream}", UPGRADE) for stream in ("stream", "sound"))]
        for path, header in ways:
            url = f"http://{door}/user/alice/api/displays{path}"
            command = f"curl -s -m 5 -o /dev/null -w '%{{http_code}}' --http1.1 {header} {url}"
            assert as_user(host, "bob", command).stdout == "403", url
    abstract = [line for line in host.check_output("ss -H -l -n -p -x").splitlines() if " @" in line]
    # The name of the X server's socket is held without listening, so that nobody else does.
    abstract = [line for line in abstract if line.split()[:2] != ["u_str", "UNCONN"]]
    open_ones = [line for line in abstract for pid in mine if f"pid={pid}," in line]
    for line in open_ones:
        name = line.split()[4]
        # Buses ask the kernel who it is, and session managers for a cookie; anything else would be open to all.
        assert "dbus" in name or ".ICE-unix" in name, line
        if "dbus" in name:
            address = f"unix:abstract={name.lstrip('@')}"
            command = (
                f"dbus-send --bus={shlex.quote(address)} --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames"
            )
            assert as_user(host, "bob", command).rc != 0


@pytest.mark.attack
def test_neighbour_is_shared_no_memory_with(alice: Person, desktop: dict[str, Any]) -> None:
    """No memory of a display can be had by its number in the system's list, where its screen would be to be seen."""
    until(lambda: "xfdesktop" in alice.windows(desktop["id"]), 40, "a desktop")
    alice.picture(desktop["id"])
    segments = [line.split() for line in alice.host.file("/proc/sysvipc/shm").content_string.splitlines()]
    uid = segments[0].index("uid")
    assert not [segment for segment in segments[1:] if segment[uid] == str(UIDS["alice"])]


@pytest.mark.attack
def test_neighbour_reads_no_secret_in_proc(alice: Person, desktop: dict[str, Any]) -> None:
    """Command lines can be read and say nothing; environments cannot."""
    share = alice.call("POST", f"/{desktop['id']}/shares", {"mode": "view"}, status=201)
    host = alice.host
    cookie = host.check_output(f"tail -c 16 {alice.directory}/{desktop['id']}/xauthority | od -An -v -tx1")
    secrets = ["".join(cookie.split()), share["url"].rpartition("/")[2], alice.token]
    assert len(secrets[0]) == 32
    mine = processes(host, "alice")
    seen = as_user(host, "bob", "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f; echo; done 2>/dev/null").stdout
    assert "python" in seen
    assert not [secret for secret in secrets if secret in seen]
    look = (
        f"for pid in {' '.join(map(str, mine))}; do"
        " for name in fd root cwd; do ls /proc/$pid/$name/ && echo $pid $name; done;"
        " for name in environ mem maps; do (: < /proc/$pid/$name) && echo $pid $name; done; done 2>/dev/null"
    )
    assert as_user(host, "bob", look).stdout == ""
    assert "environ" in as_user(host, "alice", look).stdout


@pytest.mark.attack
def test_neighbour_is_refused_by_the_api(alice: Person, bob: Person, desktop: dict[str, Any]) -> None:
    """With a token of his own for another's display, and without any; pages and WebSockets alike."""
    for path in ("", f"/{desktop['id']}", f"/{desktop['id']}/screen", f"/{desktop['id']}/keymap"):
        bob.call("GET", path, of="alice", status=403)
    bob.call("DELETE", f"/{desktop['id']}", of="alice", status=403)
    bob.call("POST", of="alice", body={"application": "clock"}, status=403)
    # His own server has no such display.
    bob.call("GET", f"/{desktop['id']}", status=404)
    ways = {"none": "", "foreign": f"-H 'Authorization: token {bob.token}'", "wrong": "-H 'Authorization: token x'"}
    for stream in ("stream", "sound"):
        url = f"{HUB}/user/alice/api/displays/{desktop['id']}/{stream}"
        for way, header in ways.items():
            assert alice.host.run(f"{OPEN} {header} {url}").stdout == "403", (stream, way)
        # The same request with the owner's token is let in, or the test would prove nothing.
        assert alice.host.run(f"{OPEN} -H 'Authorization: token {alice.token}' {url}").stdout == "101"
        assert alice.host.run(f"{OPEN} {url} -H 'Origin: https://evil.example.org'").stdout == "403"
        shared = f"{HUB}/user/alice/displays/shared/{'A' * 43}/{stream}"
        assert alice.host.run(f"{OPEN} {shared}").stdout == "403"


# The end


def test_stop_of_the_server_leaves_nothing(alice: Person, desktop: dict[str, Any]) -> None:
    """No process, socket, lock or directory of the display, nor anything of its session."""
    until(lambda: "xfce4-panel" in alice.windows(desktop["id"]), 40, "the panel")
    number = alice.number(desktop["id"])
    sockets = f"{inside('alice')} find /tmp/.ICE-unix -user alice"
    until(lambda: alice.host.run(sockets).stdout, 10, "the desktop's session manager")
    assert alice.client("stop").rc == 0
    until(lambda: not processes(alice.host, "alice"), 15, lambda: processes(alice.host, "alice"))
    assert not alice.host.file(f"/tmp/.X{number}-lock").exists
    assert alice.host.run(f"ls -d /tmp/.X11-unix/X{number} {alice.directory}/[0-9]*").stdout == ""
    until(lambda: not alice.host.file(f"/var/lib/campushub/tmp/{UIDS['alice']}").exists, 10, "the end of alice's /tmp")
    assert alice.host.run("find /tmp /var/tmp /dev/shm -user alice").stdout == ""
    # Xpra has places of its own for sockets and the files of sessions. What the package knows of its version stays.
    others = "-not -path '/run/systemd/*' -not -path '/run/jupyterhub-users/*/displays/version-xpra.json'"
    assert alice.host.run(f"find /run /tmp -ipath '*xpra*' {others}").stdout == ""
    assert "xpra" not in alice.host.check_output("ss -H -l -n -x").lower()
    assert not alice.host.file("/home/alice/.xpra").exists
    assert not alice.host.file("/home/alice/.ICEauthority").exists


@pytest.mark.one_host
def test_desktop_takes_the_place_of_notebooks(
    alice: Person, bob: Person, apply_role: ApplyRole, browser: Browser, wire: Wire
) -> None:
    """A site may have the hub start desktops alone; people get in as they do to notebooks, and nobody else."""
    host = alice.host
    bob.client("stop")
    files = "/etc/jupyterhub/settings.json /etc/jupyterhub/server-command.json"
    host.check_output(f"mkdir -p /opt/before && cp -a {files} /opt/before/")
    done = apply_role(role="jupyterhub", jupyterhub_interface="desktop")
    assert done.returncode == 0, done.stdout[-3000:]
    try:
        token = alice.token
        assert alice.client("start").rc == 0
        assert [words for words in processes(host, "alice").values() if "bin/jupyterhub-desktop" in words]
        display = until(lambda: alice.call("GET")["displays"], 10, "a display that nobody had to start")[0]
        assert display["application"] == "desktop"
        until(lambda: "xfce4-panel" in alice.windows(display["id"]), 40, lambda: alice.windows(display["id"]))
        assert alice.call("GET", f"/{display['id']}")["state"] == "running"
        for whose, path, code in ((token, "", "200"), (bob.token, "", "403"), (token, "api/contents", "404")):
            header = f"-H 'Authorization: token {whose}'"
            page = f"{HUB}/user/alice/{path}"
            assert host.run(f"curl -s -o /dev/null -w '%{{http_code}}' {header} {page}").stdout == code, page
        for header, code in ((f"token {token}", "101"), (f"token {bob.token}", "403"), ("", "403")):
            for stream in ("stream", "sound"):
                url = f"{HUB}/user/alice/api/displays/{display['id']}/{stream}"
                assert host.run(f"{OPEN} -H 'Authorization: {header}' {url}").stdout == code
        assert alice.client("stop").rc == 0
        until(lambda: not processes(host, "alice"), 15, lambda: processes(host, "alice"))
        visit_desktop(host, browser, wire.url)
        assert alice.client("stop").rc == 0
        until(lambda: not processes(host, "alice"), 15, lambda: processes(host, "alice"))
        profile = {"name": "shell", "title": "Shell", "interface": "desktop", "application": "terminal"}
        done = apply_role(role="jupyterhub", jupyterhub_profiles=[profile], jupyterhub_applications=["terminal"])
        assert done.returncode == 0, done.stdout[-3000:]
        assert alice.client("start").rc == 0
        display = until(lambda: alice.call("GET")["displays"], 10, "a display that nobody had to start")[0]
        assert display["application"] == "terminal"
        assert alice.client("stop").rc == 0
        until(lambda: not processes(host, "alice"), 15, lambda: processes(host, "alice"))
        assert host.run("find /tmp /var/tmp /dev/shm -user alice").stdout == ""
    finally:
        # As it was, in a moment; that the role does so, too, its own tests show.
        host.check_output("cp -a /opt/before/* /etc/jupyterhub/ && systemctl restart jupyterhub")


def visit_desktop(host: Host, browser: Browser, url: str) -> None:
    """Log in, see the desktop come up, and start it again when it has died."""
    visitor = browser_user.Person(browser, url, "alice", "alice-secret")
    visitor.see_login(after="/hub/spawn/alice")
    visitor.log_in()
    page = visitor.page
    painted = page.locator(".jp-Display[data-painted]")
    expect(painted).to_be_visible()
    expect(page).to_have_url(f"{url}/user/alice/")
    host.check_output("pkill -KILL -u alice 'Xvfb|Xtigervnc'")
    expect(page.locator(".jp-Display-status")).to_contain_text("The X server was killed by SIGKILL.")
    page.get_by_role("button", name="Restart").click()
    expect(page).to_have_url(f"{url}/user/alice/displays/2")
    expect(painted.locator(".jp-Display-overlay")).to_be_hidden()
    visitor.leave()


def test_removal_takes_all_but_the_packages(host: Host, apply_role: ApplyRole) -> None:
    """And can be repeated; installed again, it is as before."""
    done = apply_role(displays_state="absent")
    assert done.returncode == 0, done.stdout[-3000:]
    for path in (SETTINGS, "/etc/campushub/applications.d/site.json", "/usr/local/lib/campushub/desktop"):
        assert not host.file(path).exists, path
    assert host.run("ls /usr/local/share/applications/campushub-*.desktop").rc != 0
    if not os.environ.get("XPRA_APT_URL"):
        # What was built would be renewed by nobody.
        assert not any(host.package(f"xpra-{part}").is_installed for part in ("server", "x11", "codecs", "common"))
        assert not host.file("/var/lib/campushub/xpra").exists
    assert "changed=0" in apply_role(displays_state="absent").stdout
    assert "failed=0" in apply_role(check=True).stdout
    assert apply_role().returncode == 0
    assert host.file(SETTINGS).exists
