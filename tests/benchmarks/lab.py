#!/usr/bin/env python3
"""
From the click on *Start* to a usable JupyterLab, in Chromium, against JupyterHub as shipped.

    tests/benchmarks/lab.py ADDRESS --url https://localhost:8443 [--rounds 7] [--delay 50] [--waterfall DIRECTORY]

ADDRESS is a host on which site.yml was applied, URL what people type there. A second hub is run beside the host's one
(see peer.py), with JupyterHub's own TLS. Both are reached through a proxy of this script that holds every byte back
for some milliseconds each way, and the answer to a new connection as well; it limits no throughput. Visits are taken in
turns, and all is removed from the host at the end. Measured, until the launcher is drawn:

    start, cold     from the click on Start, in a browser that has never been there
    open, warm      from the click on a hub's page, the server runs and the browser has been there
    start, warm     the same, the server does not run
    open, cold      the server runs, the browser has never been there

Each is divided into what passes until the page of JupyterLab has arrived, and the rest. Requests and bytes are those
that the network saw. Round trips are the time that the delay adds, divided by what one takes: how often the browser had
to wait for an answer before it could ask on.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Error, Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks import peer  # noqa: E402
from tests.chromium import chromium  # noqa: E402

USER = "bench-lab"
PEER_URL = "https://peer.example.test:8100"
PORTS = {"ours": 443, "theirs": 8100}
SIDES = {"ours": "CampusHub", "theirs": "as shipped"}
VISITS = ["start, cold", "open, warm", "start, warm", "open, cold"]

# Notes in each page when the launcher can be used: Lab's splash lies over all until then.
DRAWN = """(() => {
  const look = () => {
    const card = document.querySelector(".jp-LauncherCard[title^='Python 3']");
    if (card?.checkVisibility() && !document.querySelector("#jupyterlab-splash")) {
      requestAnimationFrame(() => (window.drawn = performance.timeOrigin + performance.now()));
    } else {
      requestAnimationFrame(look);
    }
  };
  look();
})();"""
PAGE_ARRIVED = "performance.timeOrigin + performance.getEntriesByType('navigation')[0].responseEnd"

# Runs on the host, after peer.py.
MEASURED = r"""
import sys
NAMES = ["bench-lab"]
TLS = '''
c.JupyterHub.bind_url = "https://0.0.0.0:8100"
c.JupyterHub.ssl_cert = "WORK/hub/cert.pem"
c.JupyterHub.ssl_key = "WORK/hub/key.pem"
'''.replace("WORK", WORK)

def prepare():
    clean(NAMES)
    make_users(NAMES)
    os.makedirs(WORK + "/hub")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=peer.example.test", "-keyout", WORK + "/hub/key.pem", "-out", WORK + "/hub/cert.pem")
    if sudo:
        shutil.chown(WORK + "/hub/key.pem", "jupyterhub")
    start_peer(TLS)
"""


class DelayedPort:
    """A port of this machine that leads to one of the host, with a delay that can be changed."""

    def __init__(self, stack: ExitStack, address: str, port: int) -> None:
        self._delay = multiprocessing.Value("d", 0.0)
        self._target = address, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.number = int(self._listener.getsockname()[1])
        process = multiprocessing.Process(target=lambda: asyncio.run(self._serve()), daemon=True)
        process.start()
        stack.callback(process.terminate)

    def delay(self, milliseconds: float) -> None:
        """Hold back what comes from now on for so long, each way."""
        self._delay.value = milliseconds / 1000

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._join, sock=self._listener)
        await server.serve_forever()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # This machine accepts a connection at once. The one to the host would be there a round trip later.
        opened = time.monotonic() + 2 * self._delay.value
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        await asyncio.gather(self._carry(reader, there_writer, opened), self._carry(there_reader, writer, 0))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opened: float) -> None:
        """Carry bytes from one side to the other, none before the connection is open."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.create_task(self._send(queue, writer))
        data = b" "
        while data:
            try:
                data = await reader.read(2**16)
            except ConnectionError:
                data = b""
            queue.put_nowait((max(time.monotonic(), opened) + self._delay.value, data))
        await sender

    @staticmethod
    async def _send(queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - time.monotonic()))
            if not data or writer.is_closing():
                writer.close()
                return
            writer.write(data)


@dataclass
class Request:
    """One request of a page, as Chromium tells it."""

    url: str
    began: float
    answered: float = 0
    ended: float = 0
    size: int = 0
    status: int = 0
    cached: bool = False
    protocol: str = ""


@dataclass
class Visit:
    """What a way from a click to the launcher took."""

    total: float = 0
    start: float = 0
    requests: list[Request] = field(default_factory=list)

    @property
    def sent(self) -> list[Request]:
        """Those that the network saw."""
        return [request for request in self.requests if not request.cached and not request.url.startswith("data:")]

    def waterfall(self) -> str:
        """All requests, a line each: when they began, when the answer began and ended, and how large it was."""
        begin = min(request.began for request in self.requests)
        lines = [f"{self.total:.3f} s, page after {self.start:.3f} s"]
        for one in self.requests:
            times = [f"{max(0, moment - begin) * 1000:7.0f}" for moment in (one.began, one.answered, one.ended)]
            kept = "cache" if one.cached else one.protocol
            lines.append(f"{' '.join(times)} {one.size:9} {one.status} {kept:9} {urlsplit(one.url).path}")
        return "\n".join(lines) + "\n"


class Recorder:
    """Listens to a page's requests."""

    def __init__(self, page: Page) -> None:
        self.requests: list[Request] = []
        self._open: dict[str, Request] = {}
        session = page.context.new_cdp_session(page)
        session.on("Network.requestWillBeSent", self._begin)
        session.on("Network.requestServedFromCache", lambda event: self._note(event, cached=True))
        session.on("Network.responseReceived", self._answer)
        session.on("Network.loadingFinished", self._finish)
        session.send("Network.enable")

    def _begin(self, event: dict[str, Any]) -> None:
        former = self._open.get(event["requestId"])
        if former and (redirect := event.get("redirectResponse")):
            self._take(former, redirect)
            former.answered = former.ended = event["timestamp"]
            former.size = redirect["encodedDataLength"]
        request = Request(event["request"]["url"], event["timestamp"])
        self._open[event["requestId"]] = request
        self.requests.append(request)

    def _note(self, event: dict[str, Any], **values: Any) -> None:
        if request := self._open.get(event["requestId"]):
            vars(request).update(values)

    @staticmethod
    def _take(request: Request, response: dict[str, Any]) -> None:
        request.status, request.protocol = response["status"], response.get("protocol", "")
        request.cached |= bool(response.get("fromDiskCache") or response.get("fromPrefetchCache"))

    def _answer(self, event: dict[str, Any]) -> None:
        if request := self._open.get(event["requestId"]):
            self._take(request, event["response"])
            request.answered = event["timestamp"]

    def _finish(self, event: dict[str, Any]) -> None:
        self._note(event, ended=event["timestamp"], size=int(event["encodedDataLength"]))


class Person:
    """A user with a browser that has never been there."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(viewport={"width": 1280, "height": 800})
        self.context.add_init_script(DRAWN)
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.recorder = Recorder(self.page)

    def log_in(self) -> float:
        """Log in and see the hub's page; return the seconds from the click on."""
        self.page.goto(f"{self.url}/hub/login?next=%2Fhub%2Fhome")
        self.page.locator("#username_input").fill(USER)
        self.page.locator("#password_input").fill(f"{USER}-secret")
        begin = time.monotonic()
        self.page.locator("#login_submit").click()
        self.page.locator("#start").wait_for()
        return time.monotonic() - begin

    def visit(self) -> Visit:
        """Click on Start, or Open, and wait for the launcher."""
        self.page.goto(f"{self.url}/hub/home", wait_until="networkidle")
        box = self.page.locator("#start").bounding_box()
        assert box
        self.recorder.requests.clear()
        begin = time.time()
        # As a click of Playwright would be, which waits for several frames before.
        self.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        drawn = self.page.wait_for_function("window.drawn", timeout=120_000).json_value()
        visit = Visit(drawn / 1000 - begin, self.page.evaluate(PAGE_ARRIVED) / 1000 - begin)
        visit.requests = list(self.recorder.requests)
        # Lab saves its layout and leaves nothing to be asked about.
        self.page.wait_for_timeout(1500)
        return visit

    def home(self) -> None:
        """Open the hub's page, which loads itself again when something has changed."""
        while True:
            try:
                self.page.goto(f"{self.url}/hub/home")
            except Error as error:
                if "ERR_ABORTED" not in error.message:
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop the server."""
        self.home()
        with self.page.expect_response(lambda response: response.request.method == "DELETE"):
            self.page.locator("#stop").click()
        while True:
            self.home()
            if not self.page.locator("#stop").is_visible():
                return
            self.page.wait_for_timeout(300)

    def leave(self) -> None:
        """Close the browser."""
        self.context.close()


Figures = dict[str, list[Visit]]


def round_of_visits(browser: Browser, url: str, figures: Figures, logins: list[float]) -> None:
    """Take each of the visits once."""
    one = Person(browser, url)
    logins.append(one.log_in())
    figures["start, cold"].append(one.visit())
    figures["open, warm"].append(one.visit())
    one.stop()
    figures["start, warm"].append(one.visit())
    one.leave()
    one = Person(browser, url)
    one.log_in()
    figures["open, cold"].append(one.visit())
    one.stop()
    one.leave()


def median(visits: list[Visit], figure: Callable[[Visit], float]) -> float:
    """Return the median of a figure."""
    return statistics.median(figure(visit) for visit in visits)


def show(results: dict[tuple[str, float], Figures], logins: dict[tuple[str, float], list[float]]) -> None:
    """Print a table for each delay."""
    delays = sorted({delay for _, delay in results})
    for delay in delays:
        print(f"\n{delay:g} ms each way, seconds, median (min-max); until Lab's page + the rest; requests, MB")
        for visit in VISITS:
            totals = {}
            for side, name in SIDES.items():
                visits, undelayed = results[side, delay][visit], results[side, delays[0]][visit]
                totals[side] = median(visits, lambda one: one.total)
                every = [one.total for one in visits]
                start = median(visits, lambda one: one.start)
                requests = median(visits, lambda one: len(one.sent))
                size = median(visits, lambda one: sum(request.size for request in one.sent)) / 1e6
                print(
                    f"{visit:<12} {name:<11} {totals[side]:6.2f} ({min(every):.2f}-{max(every):.2f})"
                    f" {start:6.2f} + {totals[side] - start:.2f} {requests:6.0f} {size:6.2f}",
                    end="",
                )
                trips = (totals[side] - median(undelayed, lambda one: one.total)) * 1000 / (2 * delay or 1)
                print(f"  {trips:4.1f} round trips" if delay else "")
            print(f"{'':<12} {'ratio':<11} {totals['ours'] / totals['theirs']:6.2f}")
        login = [statistics.median(logins[side, delay]) for side in SIDES]
        print(f"{'login':<12} {'':<11} {login[0]:6.2f} {login[1]:6.2f} ratio {login[0] / login[1]:.2f}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("address", help="host on which site.yml was applied")
    parser.add_argument("--url", required=True, help="what people type to get there")
    parser.add_argument("--user", default="admin", help="who logs in there by ssh, with sudo (%(default)s)")
    parser.add_argument("--key", default=str(ROOT / ".state/id_ed25519"), help="ssh key (%(default)s)")
    parser.add_argument("--group", default="jupyter-users", help="Unix group that may log in (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="visits of each kind (%(default)s)")
    parser.add_argument("--delay", type=float, default=50, help="milliseconds each way, beside none (%(default)s)")
    parser.add_argument("--waterfall", type=Path, help="directory for the requests of the last visits, line by line")
    parser.add_argument("--keep", action="store_true", help="leave the second hub there, and use it if it is")
    arguments = parser.parse_args()
    ssh = ["ssh", "-i", arguments.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    ssh += ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", f"{arguments.user}@{arguments.address}"]

    def on_host(call: str) -> None:
        script = peer.on_host("/opt/bench-lab", arguments.group) + MEASURED + call
        subprocess.run([*ssh, "sudo /opt/campushub/hub/bin/python -"], input=script, text=True, check=True)

    urls = {"ours": arguments.url.rstrip("/"), "theirs": PEER_URL}
    results: dict[tuple[str, float], Figures] = {}
    logins: dict[tuple[str, float], list[float]] = defaultdict(list)
    on_host("if not os.path.exists(WORK): prepare()\n" if arguments.keep else "prepare()\n")
    try:
        with ExitStack() as stack:
            ports = {side: DelayedPort(stack, arguments.address, number) for side, number in PORTS.items()}
            rules = []
            for side, url in urls.items():
                parts = urlsplit(url)
                names = (parts.hostname, f"*.{parts.hostname}")
                rules += [f"MAP {name}:{parts.port or 443} 127.0.0.1:{ports[side].number}" for name in names]
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            # An answer under a certificate that is not trusted would be kept in no cache; so all are.
            options = (f"--host-resolver-rules={', '.join(rules)}", "--ignore-certificate-errors")
            browser = stack.enter_context(chromium(directory, [port.number for port in ports.values()], *options))
            for number in range(arguments.rounds):
                for delay in (0.0, arguments.delay):
                    for side, url in urls.items():
                        ports[side].delay(delay)
                        figures = results.setdefault((side, delay), {visit: [] for visit in VISITS})
                        round_of_visits(browser, url, figures, logins[side, delay])
                        print(f"round {number + 1}, {delay:g} ms, {SIDES[side]}: ", end="", file=sys.stderr)
                        print(*(f"{v} {figures[v][-1].total:.2f}" for v in VISITS), sep="; ", file=sys.stderr)
    finally:
        if not arguments.keep:
            on_host("clean(NAMES)\n")
    show(results, logins)
    if arguments.waterfall:
        arguments.waterfall.mkdir(parents=True, exist_ok=True)
        for (side, delay), figures in results.items():
            for visit, visits in figures.items():
                path = arguments.waterfall / f"{side}-{delay:g}-{visit.replace(', ', '-')}.txt"
                path.write_text(visits[-1].waterfall())
    return 0


if __name__ == "__main__":
    sys.exit(main())
