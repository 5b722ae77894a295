#!/usr/bin/env python3
"""
What a hub needs that knows thousands of people and has hundreds of servers, and how long people wait for its pages.

    tests/benchmarks/hub_at_scale.py ADDRESS [--user admin] [--key .state/id_ed25519] [--database sqlite|postgresql]
        [--known 2000] [--running 300] [--logins 50] [--minutes 5]

ADDRESS is a host on which site.yml was applied with SystemdSpawner and without subdomains of users; it is no host to
keep. Its hub gets an empty database, which `known` people are in, with accounts of the host, and `running` servers.
Servers are stand-ins: one program answers for all of them, and reports activity each five minutes for each, as
jupyterhub-singleuser does; all else is the hub as it is installed, with PAM. Then there are `logins` a minute, one
after the other: the page of the login, the login, the home page; each second one starts a server and stops it.

Printed are the times of pages, CPU time and memory of hub and proxy with no server, with the servers, and with the
logins as well, and how long a restart of the hub takes until its login page is there. All is put back at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks import hub_load  # noqa: E402

# The place on the host for what this needs.
WORK = "/opt/hub-at-scale"

# Read by the hub after all other settings.
CONFIG = r'''
import json, os, urllib.request
from campushub_hub.spawners.systemd import CampusSystemdSpawner

class StandInSpawner(CampusSystemdSpawner):
    """Has a stand-in answer in the place of a server of its own."""

    _runs = False

    async def start(self):
        await self.prepare()
        environment = self.get_env()
        names = ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_ACTIVITY_URL", "JUPYTERHUB_SERVER_NAME")
        document = {name: environment[name] for name in names}
        request = urllib.request.Request("http://127.0.0.1:8999/register", json.dumps(document).encode())
        urllib.request.urlopen(request).close()
        self._runs = True
        return "127.0.0.1", 8999

    async def poll(self):
        return None if self._runs else 0

    async def stop(self, now=False):
        self._runs = False

    async def main_pid(self):
        return int(open("/opt/hub-at-scale/pid").read())

    def get_state(self):
        return {**super().get_state(), "runs": self._runs}

    def load_state(self, state):
        super().load_state(state)
        self._runs = state.get("runs", False)

    def clear_state(self):
        super().clear_state()
        self._runs = False

c.JupyterHub.spawner_class = StandInSpawner
c.JupyterHub.db_url = "@DATABASE@"
c.JupyterHub.services = [*c.JupyterHub.services, {"name": "scale", "api_token": "@TOKEN@"}]
c.JupyterHub.load_roles = [
    *c.JupyterHub.load_roles, {"name": "scale", "scopes": ["admin:users", "admin:servers"], "services": ["scale"]}
]
'''

# One process for all servers.
STAND_IN = r'''
import asyncio, datetime, json, os, random, tornado.httpclient, tornado.web

INTERVAL = 300
client = tornado.httpclient.AsyncHTTPClient(max_clients=50)
sent = {"reports": 0, "failed": 0}

async def report(server):
    """Report activity, at another moment for each server."""
    await asyncio.sleep(random.uniform(0, INTERVAL))
    while True:
        now = datetime.datetime.now(datetime.timezone.utc).isoformat()
        document = {"servers": {server["JUPYTERHUB_SERVER_NAME"]: {"last_activity": now}}, "last_activity": now}
        headers = {"Authorization": f"token {server['JUPYTERHUB_API_TOKEN']}", "Content-Type": "application/json"}
        try:
            url, body = server["JUPYTERHUB_ACTIVITY_URL"], json.dumps(document)
            await client.fetch(url, method="POST", headers=headers, body=body)
            sent["reports"] += 1
        except Exception:
            # Of a server that was stopped, the token is not valid any more.
            sent["failed"] += 1
            return
        await asyncio.sleep(INTERVAL)

class Register(tornado.web.RequestHandler):
    def post(self):
        tasks.append(asyncio.ensure_future(report(json.loads(self.request.body))))

    def get(self):
        self.finish(sent)

class Answer(tornado.web.RequestHandler):
    def check_xsrf_cookie(self):
        pass

    def get(self):
        self.set_header("X-JupyterHub-Version", VERSION)
        self.finish({"version": "stand-in"})

    def put(self):
        self.finish({"idle": 10, "saving": 0})

async def main():
    tornado.web.Application([("/register", Register), (".*", Answer)]).listen(8999, "127.0.0.1")
    open("/opt/hub-at-scale/pid", "w").write(str(os.getpid()))
    await asyncio.Event().wait()

tasks = []
import jupyterhub
VERSION = jupyterhub.__version__
asyncio.run(main())
'''

# Runs on the host, as root, with hub_client.py and hub_load.py before it.
MEASURE = r'''
import concurrent.futures, secrets, statistics, threading

URL, TOKEN = "http://127.0.0.1:980", secrets.token_hex(16)
NAMES = [f"scale{number:05}" for number in range(KNOWN)]
ADDITION = pathlib.Path("/etc/jupyterhub/config.d/zz-hub-at-scale.py")

def database():
    """Return the address of an empty database."""
    if DATABASE == "sqlite":
        return f"sqlite:///{WORK}/hub.sqlite"
    run("apt-get", "-q", "-y", "install", "postgresql", env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    for command in (
        "DROP DATABASE IF EXISTS scale",
        "DROP ROLE IF EXISTS scale",
        f"CREATE ROLE scale LOGIN PASSWORD '{TOKEN}'",
        "CREATE DATABASE scale OWNER scale",
    ):
        run("runuser", "-u", "postgres", "--", "psql", "-qc", command, cwd="/")
    return f"postgresql+psycopg://scale:{TOKEN}@127.0.0.1/scale"

def restart():
    """Restart the hub; return the seconds until its login page is there."""
    begin = time.monotonic()
    run("systemctl", "restart", "jupyterhub")
    while True:
        try:
            with urllib.request.urlopen(URL + "/hub/login", timeout=5) as page:
                page.read()
                return time.monotonic() - begin
        except OSError:
            time.sleep(0.05)

def timed(times, what, function, *arguments):
    begin = time.monotonic()
    value = function(*arguments)
    times.setdefault(what, []).append(time.monotonic() - begin)
    return value

def visit(number, times, failed):
    """Log in, look at the home page; each second visitor starts a server and stops it."""
    hub = Hub(URL, NAMES[RUNNING + number % (KNOWN - RUNNING)])
    try:
        timed(times, "login page", hub.request, "/hub/login")
        timed(times, "login and home page", hub.login, PASSWORD)
        status, _, _ = timed(times, "home page", hub.request, "/hub/home")
        if status != 200:
            failed.append(f"home page: {status}")
        if number % 2:
            timed(times, "start", hub.start)
            hub.stop()
    except (HubError, OSError) as error:
        failed.append(str(error)[:200])

def start_all():
    """Start the servers, eight at a time."""
    def start(name):
        status, _ = api(f"/users/{name}/server", "POST", {})
        while status == 202:
            if json.loads(api(f"/users/{name}")[1])["servers"].get("", {}).get("ready"):
                break
            time.sleep(0.2)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(start, NAMES[:RUNNING]))

def figures():
    print(f"{KNOWN} people, {RUNNING} servers, {LOGINS} logins a minute for {MINUTES} minutes, {DATABASE}")
    print(f"restart, nobody known        {restart():.2f} s")
    begin = time.monotonic()
    make_known(NAMES)
    print(f"{KNOWN} people made known     {time.monotonic() - begin:.1f} s")
    print(f"restart, no server           {restart():.2f} s")
    window = Window()
    time.sleep(60)
    window.print("no server, 1 minute")
    begin = time.monotonic()
    start_all()
    print(f"{RUNNING} servers started        {time.monotonic() - begin:.1f} s")
    print(f"restart, {RUNNING} servers       {restart():.2f} s", flush=True)
    time.sleep(20)
    window = Window()
    time.sleep(MINUTES * 60)
    window.print("servers, no logins")
    times, failed, visitors = {}, [], []
    window, begin = Window(), time.monotonic()
    for number in range(LOGINS * MINUTES):
        time.sleep(max(0, begin + number * 60 / LOGINS - time.monotonic()))
        visitor = threading.Thread(target=visit, args=(number, times, failed))
        visitor.start()
        visitors.append(visitor)
    for visitor in visitors:
        visitor.join()
    window.print("servers and logins")
    for what, taken in times.items():
        taken.sort()
        most = taken[max(0, -(-99 * len(taken) // 100) - 1)]
        print(f"{what:<28} p50 {1000 * statistics.median(taken):6.0f} ms   p99 {1000 * most:6.0f} ms   of {len(taken)}")
    with urllib.request.urlopen("http://127.0.0.1:8999/register") as answer:
        print("reports of activity         ", answer.read().decode())
    print(f"failed                       {len(failed)} {sorted(set(failed))[:3]}", flush=True)

shutil.rmtree(WORK, ignore_errors=True)
os.makedirs(WORK)
try:
    accounts(NAMES)
    pathlib.Path(WORK, "stand_in.py").write_text(STAND_IN)
    run("systemd-run", "-q", "--collect", "--unit=hub-at-scale", "/opt/campushub/hub/bin/python", WORK + "/stand_in.py")
    while not os.path.exists(WORK + "/pid"):
        time.sleep(0.1)
    ADDITION.write_text(CONFIG.replace("@TOKEN@", TOKEN).replace("@DATABASE@", database()))
    ADDITION.chmod(0o600)
    figures()
finally:
    ADDITION.unlink(missing_ok=True)
    subprocess.run(["systemctl", "restart", "jupyterhub"], capture_output=True)
    # Not before: the hub would look for the reason of the end of each server.
    subprocess.run(["systemctl", "stop", "hub-at-scale"], capture_output=True)
    remove_accounts()
    shutil.rmtree(WORK, ignore_errors=True)
'''


def main() -> int:
    """Measure on the host and print the figures."""
    parser = argparse.ArgumentParser(description="Measure a hub with thousands of people and hundreds of servers.")
    parser.add_argument("address", help="host on which site.yml was applied")
    parser.add_argument("--user", default="admin", help="user with sudo there (default: %(default)s)")
    parser.add_argument("--key", type=Path, default=ROOT / ".state" / "id_ed25519", help="ssh key")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--known", type=int, default=2000, help="people that the hub knows (default: %(default)s)")
    parser.add_argument("--running", type=int, default=300, help="servers that run (default: %(default)s)")
    parser.add_argument("--logins", type=int, default=50, help="logins a minute (default: %(default)s)")
    parser.add_argument("--minutes", type=int, default=5, help="how long each measurement takes (default: %(default)s)")
    options = parser.parse_args()
    client = (ROOT / "tests" / "hub_client.py").read_text().partition("def main(")[0]
    values = {
        "WORK": WORK,
        "CONFIG": CONFIG,
        "STAND_IN": STAND_IN,
        "DATABASE": options.database,
        "KNOWN": options.known,
        "RUNNING": options.running,
        "LOGINS": options.logins,
        "MINUTES": options.minutes,
        "GROUP": "jupyter-users",
    }
    given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    ssh = ["ssh", "-i", str(options.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    command = [*ssh, "-o", "LogLevel=ERROR", f"{options.user}@{options.address}"]
    program = f"{client}\n{given}{hub_load.ON_HOST}{MEASURE}"
    done = subprocess.run([*command, "sudo /opt/campushub/hub/bin/python -"], input=program, text=True, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
