#!/usr/bin/env python3
"""
Displays against jupyter-remote-desktop-proxy: how soon they are there, how quick keys are, what they take.

    tests/benchmarks/displays.py ADDRESS [--only start,keys,idle,motion,crowd] [--rounds 5]

ADDRESS is a host with roles displays and jupyter, and jupyterhub for the crowd. There a user is made and gets
JupyterLab four times: with displays of Xpra, of TigerVNC, of Xpra with a pre-warmed desktop, and, in an
environment of its own that pip has made, with the peer as its README has it. All show the same desktop in the
same Chromium on this machine. Rounds are taken in turns. In the end all is removed from the host. Measured:

    start    from the click in the launcher to the first frame, and to the first one in which there is something to see
    keys     from a key to the change of the page's picture, in an xterm
    idle     memory (PSS) and processor time of everything that a display needs beside the Jupyter server
    motion   frames shown and bytes received: 10,000 lines in an xterm, 10 s of glxgears, and 10 s of a video of 640x360
    crowd    displays of twenty users at once, through the hub: seconds until all are painted
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.chromium import OPTIONS  # noqa: E402

PEER = "jupyter-remote-desktop-proxy"
PORTS = {"xpra": 8901, "tigervnc": 8902, "ready": 8903, PEER: 8904}
NAMES = {
    "xpra": "Xpra",
    "tigervnc": "TigerVNC",
    "ready": "Xpra, a desktop waits",
    PEER: "the peer",
}

# A moving picture of 640x360, 25 times a second.
VIDEO = ["-loglevel", "quiet", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25", "-left", "100", "-top", "50"]

# What every page notes: when its picture changes, when it is no longer empty, and what arrives.
EYES = """(() => {
  const clock = () => performance.timeOrigin + performance.now();
  const small = Object.assign(document.createElement("canvas"), {width: 48, height: 32});
  const glance = small.getContext("2d", {willReadFrequently: true});
  const eyes = window.eyes = {frame: 0, seen: 0, keys: [], pressed: 0, frames: 0, bytes: 0, changed: false};
  const draw = CanvasRenderingContext2D.prototype.drawImage;
  const look = canvas => {
    if (!canvas.isConnected || canvas.width < 400) return;
    if (!eyes.changed) {
      eyes.changed = true;
      requestAnimationFrame(() => {
        eyes.changed = false;
        eyes.frames++;
      });
    }
    if (eyes.pressed) {
      eyes.keys.push(clock() - eyes.pressed);
      eyes.pressed = 0;
    }
    if (!eyes.bytes) return;
    eyes.frame ||= clock();
    if (!eyes.seen) {
      draw.call(glance, canvas, 0, 0, 48, 32);
      const points = new Uint32Array(glance.getImageData(0, 0, 48, 32).data.buffer);
      if (points.some(point => point !== points[0])) eyes.seen = clock();
    }
  };
  for (const name of ["drawImage", "putImageData"]) {
    const real = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...words) {
      real.apply(this, words);
      look(this.canvas);
    };
  }
  addEventListener("click", () => (eyes.clicked = clock()), true);
  addEventListener("keydown", () => (eyes.pressed = clock()), true);
  window.WebSocket = new Proxy(WebSocket, {
    construct(Real, [url, protocols]) {
      const stream = /displays\\/\\d+\\/stream|desktop-websockify/.test(url);
      const socket = new Real(url, protocols);
      if (stream) {
        socket.addEventListener("message", event => (eyes.bytes += event.data.byteLength ?? event.data.size ?? 0));
      }
      return socket;
    }
  });
})();"""

# Functions for the host, run there as root.
ON_HOST = r"""
import glob, json, os, pwd, re, shutil, signal, subprocess, sys, time
USER, WORK, PACKAGES = "bench-displays", "/opt/bench-displays", "/opt/bench-displays.packages"

def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout

def prepare(packages):
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", USER], capture_output=True)
    uv = "/opt/campushub/uv/bin/uv"
    run(uv, "venv", "-q", "--clear", "--python", "/usr/bin/python3", WORK)
    run(uv, "pip", "install", "-q", "--compile-bytecode", "--python", WORK + "/bin/python", *packages)

def installed():
    return set(run("dpkg-query", "-W", "-f", "${Package}\n").split())

def install_player():
    if shutil.which("ffplay"):
        return
    before = installed()
    run("apt-get", "install", "-qq", "--no-install-recommends", "ffmpeg")
    with open(PACKAGES, "w") as file:
        file.write("\n".join(installed() - before))

def serve(name, port, settings):
    home, uid = f"/home/{USER}", pwd.getpwnam(USER).pw_uid
    runtime = f"/run/bench-displays-{name}"
    subprocess.run(["systemctl", "stop", f"bench-displays-{name}"], capture_output=True)
    shutil.rmtree(runtime, ignore_errors=True)
    os.makedirs(runtime, mode=0o700)
    os.chown(runtime, uid, uid)
    where = WORK if "-" in name else "/opt/campushub/user"
    words = [f"--ServerApp.{key}={value}" for key, value in (
        ("ip", "0.0.0.0"), ("port", port), ("open_browser", False), ("root_dir", home), ("port_retries", 0))]
    words += ["--IdentityProvider.token=bench", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
              "--LabApp.news_url=", *settings]
    environment = {"HOME": home, "XDG_RUNTIME_DIR": runtime, "JUPYTER_RUNTIME_DIR": runtime, "SHELL": "/bin/bash",
                   "PATH": f"{where}/bin:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    run("systemd-run", "-q", "--collect", f"--unit=bench-displays-{name}", f"--uid={USER}",
        f"--working-directory={home}", *(f"--setenv={key}={value}" for key, value in environment.items()),
        f"{where}/bin/jupyter-lab", *words)
    end = time.monotonic() + 60
    while subprocess.run(["curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{port}/api"]).returncode:
        if time.monotonic() > end:
            raise SystemExit(f"no answer; see: journalctl -u bench-displays-{name}")
        time.sleep(0.1)

def stop(name):
    subprocess.run(["systemctl", "stop", f"bench-displays-{name}"], capture_output=True)
    subprocess.run(["pkill", "-KILL", "-u", USER], capture_output=True)
    while subprocess.run(["pgrep", "-u", USER], capture_output=True).returncode == 0:
        time.sleep(0.05)
    for path in glob.glob("/tmp/.X*-lock") + glob.glob("/tmp/.X11-unix/*"):
        if pwd.getpwuid(os.stat(path).st_uid).pw_name == USER:
            os.unlink(path)

def mine():
    return [int(pid) for pid in subprocess.run(["pgrep", "-u", USER], capture_output=True, text=True).stdout.split()]

def words_of(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read().split("\0")
    except OSError:
        return [""]

def show(*program):
    # In the newest screen of the user's, without waiting for it.
    x = max((pid for pid in mine() if os.path.basename(words_of(pid)[0]) in ("Xvfb", "Xtigervnc", "Xvnc")))
    words = words_of(x)
    number = next(word for word in words if re.fullmatch(r":\d+", word))
    subprocess.Popen(["runuser", "-u", USER, "--", "env", f"DISPLAY={number}", "HOME=/home/" + USER,
        "XAUTHORITY=" + words[words.index("-auth") + 1], *program], stdout=-3, stderr=-3, start_new_session=True)

def take(seconds):
    displays = [pid for pid in mine() if not any("jupyter-lab" in word for word in words_of(pid))]
    def ticks():
        total = 0
        for pid in displays:
            try:
                total += sum(int(field) for field in open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[11:13])
            except OSError:
                pass
        return total
    before = ticks()
    time.sleep(seconds)
    used = (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds
    memory = {}
    for pid in displays:
        try:
            pss = int(re.search(r"^Pss: +(\d+)", open(f"/proc/{pid}/smaps_rollup").read(), re.M)[1])
        except (OSError, TypeError):
            continue
        name = os.path.basename(words_of(pid)[0].split(" ")[0])
        if name.startswith("python"):
            name = os.path.basename(words_of(pid)[1])
        memory[name] = memory.get(name, 0) + pss / 1000
    return {"memory": sum(memory.values()), "cpu": used, "of": memory}

def machine():
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    system = dict(re.findall(r'^(\w+)="?([^"\n]*)', open("/etc/os-release").read(), re.M))["PRETTY_NAME"]
    return f"{system}, {os.cpu_count()} x {model[1] if model else '?'}"

def clean():
    for path in glob.glob("/run/bench-displays-*"):
        subprocess.run(["systemctl", "stop", os.path.basename(path)], capture_output=True)
        shutil.rmtree(path, ignore_errors=True)
    stop("none")
    subprocess.run(["userdel", "--remove", USER], capture_output=True)
    if os.path.exists(PACKAGES):
        run("apt-get", "purge", "-qq", *open(PACKAGES).read().split())
        os.unlink(PACKAGES)
    shutil.rmtree(WORK, ignore_errors=True)
"""


# Runs on the host, with the hub's Python and hub_client.py before it.
CROWD = r"""
import subprocess, threading, zlib
HUB = "http://127.0.0.1:980"
names = [f"bench{number:02}" for number in range(20)]

def colours(picture):
    at, body = 8, b""
    while at < len(picture):
        size = int.from_bytes(picture[at:at + 4], "big")
        body += picture[at + 8:at + 8 + size] if picture[at + 4:at + 8] == b"IDAT" else b""
        at += 12 + size
    raw = zlib.decompress(body)
    return len({raw[at:at + 3] for at in range(0, len(raw), 3)})

def display(hub, begin, painted, failed):
    path = f"/user/{hub.user}/api/displays"
    try:
        made = hub.api(path, "POST", {"width": 1280, "height": 720})
        while True:
            about = hub.api(f"{path}/{made['id']}")
            if about["state"] in ("ended", "failed"):
                raise HubError(about["reason"])
            if about["state"] == "running":
                with hub._opener.open(f"{HUB}{path}/{made['id']}/screen?width=640", timeout=60) as answer:
                    if colours(answer.read()) > 8:
                        break
            if time.monotonic() - begin > 240:
                raise HubError("nothing to see")
            time.sleep(0.5)
        painted.append(time.monotonic() - begin)
    except (HubError, OSError) as error:
        failed.append(f"{hub.user}: {error}")

try:
    for name in names:
        subprocess.run(["useradd", "-m", "-s", "/bin/bash", "-G", "jupyter-users", name], capture_output=True)
    subprocess.run(["chpasswd"], input="".join(f"{name}:{name}-secret\n" for name in names), text=True, check=True)
    hubs = [Hub(HUB, name) for name in names]
    for hub in hubs:
        hub.login(f"{hub.user}-secret")
        hub.start()
    painted, failed, begin = [], [], time.monotonic()
    threads = [threading.Thread(target=display, args=(hub, begin, painted, failed)) for hub in hubs]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    free = int(re.search(r"MemAvailable: +(\d+)", open("/proc/meminfo").read())[1]) // 1000
    print(json.dumps({"painted": sorted(painted), "failed": failed, "available": free}))
finally:
    for hub in hubs:
        try:
            hub.stop()
        except HubError:
            pass
    for name in names:
        subprocess.run(["pkill", "-KILL", "-u", name], capture_output=True)
        subprocess.run(["userdel", "--remove", name], capture_output=True)
"""


class Bench:
    """The host, and a browser on this machine."""

    def __init__(self, address: str, user: str, key: str, browser: Browser) -> None:
        self.address = address
        self.browser = browser
        self._ssh = ["ssh", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        self._ssh += ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ControlMaster=auto"]
        self._ssh += ["-o", "ControlPersist=60", "-o", "ControlPath=/tmp/%C", f"{user}@{address}"]

    def on_host(self, call: str) -> Any:
        """Call one of the functions for the host."""
        code = f"{ON_HOST}\nprint(json.dumps({call}))"
        done = subprocess.run([*self._ssh, "sudo python3 -"], input=code, text=True, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    def crowd(self) -> None:
        """Have twenty users start a display at once, and print when all were painted."""
        client = (ROOT / "tests/hub_client.py").read_text().partition('if __name__ == "__main__":')[0]
        command = [*self._ssh, "sudo /opt/campushub/hub/bin/python -"]
        done = subprocess.run(command, input=client + CROWD, text=True, stdout=subprocess.PIPE, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        times = found["painted"]
        seconds = f"{statistics.median(times):.1f} s, the last after {times[-1]:.1f} s" if times else "-"
        print(f"20 displays at once: {len(times)} painted, median {seconds}; {found['available']} MB of memory free")
        print(*found["failed"], sep="\n")

    def serve(self, name: str) -> None:
        """Start a server again, with nothing of an earlier one."""
        self.on_host(f"stop({name!r})")
        settings = []
        if name != PEER:
            engine = "tigervnc" if name == "tigervnc" else "xpra"
            settings = [
                "--ServerApp.jpserver_extensions={'jupyter_displays':True}",
                f"--DisplayManager.engine={engine}",
            ]
        if name == "ready":
            settings += ["--DisplayManager.prewarm=1", "--DisplayManager.prewarm_delay=1"]
        self.on_host(f"serve({name!r}, {PORTS[name]}, {settings!r})")

    def lab(self, name: str) -> tuple[BrowserContext, Page]:
        """Open JupyterLab, ready for a click in the launcher."""
        context = self.browser.new_context(
            base_url=f"http://{self.address}:{PORTS[name]}", viewport={"width": 1280, "height": 800}
        )
        context.add_init_script(EYES)
        page = context.new_page()
        page.goto("/lab?reset&token=bench")
        expect(self.card(page)).to_be_visible(timeout=60_000)
        time.sleep(2.5 if name != "ready" else 8)
        return context, page

    def card(self, page: Page) -> Any:
        """Return what starts a desktop."""
        return page.locator(".jp-LauncherCard", has_text="Desktop").first

    def open(self, name: str) -> tuple[BrowserContext, Page, float]:
        """Open a desktop in a server that has none; return its page, and when the click was."""
        self.serve(name)
        context, lab = self.lab(name)
        page = lab
        if name == PEER:
            with context.expect_page() as opened:
                self.card(lab).click()
            page = opened.value
        else:
            self.card(lab).click()
        page.wait_for_function("window.eyes?.seen", timeout=60_000)
        return context, page, float(lab.evaluate("eyes.clicked"))

    def close(self, context: BrowserContext, name: str) -> None:
        """End everything of a server."""
        context.close()
        self.on_host(f"stop({name!r})")


Rows = dict[str, dict[str, list[float]]]


def start(bench: Bench, name: str, note: Callable[[str, float], None]) -> None:
    """Measure how soon a desktop is there."""
    context, page, clicked = bench.open(name)
    note("first frame, s", (page.evaluate("eyes.frame") - clicked) / 1000)
    note("something to see, s", (page.evaluate("eyes.seen") - clicked) / 1000)
    bench.close(context, name)


def keys(bench: Bench, name: str, note: Callable[[str, float], None]) -> None:
    """Measure how soon a character is to be seen."""
    context, page, _ = bench.open(name)
    time.sleep(6)
    bench.on_host("show('xterm', '-geometry', '200x60+0+0', '-e', 'cat')")
    time.sleep(1.5)
    canvas = page.locator("canvas").last
    canvas.click(position={"x": 300, "y": 300})
    for number in range(130):
        if number == 10:
            page.evaluate("eyes.keys = []")
        page.keyboard.press("Enter" if number % 60 == 59 else random.choice("abcdefghij"))  # noqa: S311
        page.wait_for_timeout(random.uniform(70, 110))  # noqa: S311
    found = page.evaluate("eyes.keys")
    note("key to picture, median, ms", statistics.median(found))
    note("key to picture, 90 of 100, ms", statistics.quantiles(found, n=10)[8])
    bench.close(context, name)


def idle(bench: Bench, name: str, note: Callable[[str, float], None]) -> None:
    """Measure what a desktop takes that somebody looks at, but does not use."""
    context, _, _ = bench.open(name)
    time.sleep(20)
    taken = bench.on_host("take(20)")
    note("memory, MB", taken["memory"])
    note("processor, % of a core", 100 * taken["cpu"])
    largest = sorted(taken["of"].items(), key=lambda item: -item[1])[:6]
    print(f"    {NAMES[name]}: " + ", ".join(f"{what} {size:.0f}" for what, size in largest), flush=True)
    bench.close(context, name)


def motion(bench: Bench, name: str, note: Callable[[str, float], None]) -> None:
    """Measure how much is shown of what moves, and what it takes of the network."""
    context, page, _ = bench.open(name)
    time.sleep(6)
    programs = {
        "10,000 lines": (["xterm", "-geometry", "150x50+0+0", "-e", "seq 1 10000; sleep 20"], 4),
        "glxgears, 10 s": (["timeout", "10.5", "glxgears", "-geometry", "600x600+100+50"], 10),
        "video, 10 s": (["timeout", "10.5", "env", "SDL_RENDER_DRIVER=software", "ffplay", *VIDEO], 10),
    }
    for what, (program, seconds) in programs.items():
        page.evaluate("eyes.frames = eyes.bytes = 0")
        bench.on_host(f"show(*{program!r})")
        time.sleep(seconds)
        frames, size = page.evaluate("[eyes.frames, eyes.bytes]")
        note(f"{what}: frames", frames)
        note(f"{what}: MB", size / 1e6)
        time.sleep(2)
    bench.close(context, name)


WHAT = {
    "start": (start, ["xpra", "tigervnc", "ready", PEER]),
    "keys": (keys, ["xpra", "tigervnc", PEER]),
    "idle": (idle, ["xpra", "tigervnc", PEER]),
    "motion": (motion, ["xpra", "tigervnc", PEER]),
}


def measure(bench: Bench, what: str, rounds: int) -> None:
    """Measure one thing in turns, and print medians and ratios."""
    function, names = WHAT[what]
    rows: Rows = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for name in names:
            function(bench, name, lambda row, value: rows[row][name].append(value))  # noqa: B023
    for row, found in rows.items():
        theirs = statistics.median(found[PEER])
        for name in names:
            median = statistics.median(found[name])
            ratio = f"{median / theirs:6.2f}" if theirs else "     -"
            spread = f"({min(found[name]):.2f}-{max(found[name]):.2f})"
            print(f"{row:<32} {NAMES[name]:<24} {median:9.2f} {spread:<20} {ratio}", flush=True)


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description="Displays against jupyter-remote-desktop-proxy.")
    parser.add_argument("address", help="host on which roles displays and jupyter were applied")
    parser.add_argument("--user", default="admin", help="who logs in there, with sudo (%(default)s)")
    parser.add_argument("--key", default=str(ROOT / ".state/id_ed25519"), help="ssh key (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (%(default)s)")
    parser.add_argument("--only", default=",".join([*WHAT, "crowd"]), help="what to measure (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave user and environment on the host for the next time")
    arguments = parser.parse_args()

    lock = (ROOT / "roles/jupyter/files/requirements.txt").read_text()
    lab = [line.split()[0] for line in lock.splitlines() if line.startswith("jupyterlab==")][-1]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        bench = Bench(arguments.address, arguments.user, arguments.key, browser)
        try:
            bench.on_host(f"prepare({[lab, PEER]!r})")
            print(bench.on_host("machine()"), flush=True)
            if "motion" in arguments.only:
                bench.on_host("install_player()")
            for what in arguments.only.split(","):
                if what == "crowd":
                    bench.crowd()
                else:
                    measure(bench, what, arguments.rounds)
        finally:
            if not arguments.keep:
                bench.on_host("clean()")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
