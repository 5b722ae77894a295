#!/usr/bin/env python3
"""
How long people wait for a server in a Slurm cluster, and what such servers cost the hub, against batchspawner.

    tests/benchmarks/slurm.py HUB NODE... [--user admin] [--key .state/id_ed25519] [--rounds 7] [--users 20]
        [--servers 200] [--minutes 3] [--only starts|queue|load] [--keep]

HUB and NODE are hosts on which site.yml was applied: HUB alone in the group hub with `jupyterhub_spawner: slurm`, no
profiles and no subdomains of users, the NODEs in the group compute. They are no hosts to keep. The cluster must have
room: for `users` servers of `jupyterhub_memory_limit` and `jupyterhub_cpu_limit`, and for `servers` jobs of one core
and 10 MB. On test hosts settings say so, whatever is there:

    slurm_cpus: 240
    slurm_memory_mb: 30000
    slurm_partitions: [{name: main, memory_per_cpu_mb: 600}]
    slurm_settings: {SlurmdParameters: config_overrides, ProctrackType: proctrack/linuxproc}
    jupyterhub_memory_limit: 600M
    jupyterhub_cpu_limit: 1

Beside the hub a second one is run, which peer.py describes: JupyterHub with batchspawner, in the same cluster. All is
removed at the end. Measured are:

- starts: from the request that *Start* makes until the hub says that the server is ready, and until a page of it has
  arrived, one server at a time, in turns;
- queue: the nodes are drained, `users` ask for servers, and the nodes are resumed: from then until the last is ready;
- load: the CPU time of each hub, with the programs that it runs, without servers and with `servers` of them. Their
  jobs are real ones that sleep. A stand-in answers for all of them, as the hub asks; none reports activity, which would
  be the same for both. Slurm itself counts how often it was asked for jobs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks import hub_load, peer  # noqa: E402

# The place on the hosts for what this needs.
WORK = "/opt/bench-slurm"
# The user with the jobs that sleep, and those who start servers, have the same numbers on all hosts.
FIRST_UID = 29000

# Runs on each node after peer.py, and on the hub in any case.
PREPARE = r"""
NAMES = [f"bench{number:02}" for number in range(USERS)]
os.makedirs(WORK, exist_ok=True)
make_users(NAMES, FIRST_UID)
if not os.path.exists(WORK + "/user/complete"):
    make_environment()
    open(WORK + "/user/complete", "w").close()
"""

# Runs on each node.
CLEAN = r"""
clean([f"bench{number:02}" for number in range(USERS)])
"""

# Read by our hub after all other settings.
OURS_CONFIG = r"""
import json, os
from campushub_hub.spawners import CampusSlurmSpawner
from campushub_hub.spawners.cluster import SlurmCluster

cancel_orphans = SlurmCluster.cancel_orphans

async def cancel_orphans_later(self):
    # The jobs are there before their servers are.
    if os.path.exists("@WORK@/started"):
        await cancel_orphans(self)

SlurmCluster.cancel_orphans = cancel_orphans_later

class StandInSpawner(CampusSlurmSpawner):
    '''Has a job that sleeps for a server, and a stand-in answer.'''

    async def start(self):
        await self.prepare()
        with open("@WORK@/servers.json") as file:
            known = json.load(file)
        self.job, self.uid, self.fingerprint = known["jobs"][self.user.name], known["uid"], known["fingerprint"]
        self.cluster.claim(self.key, self)
        self.chosen_age = self.seconds_to_run()
        self.listens_at = "https://127.0.0.1:8999"
        self.keep_state()
        self.secure_server()
        return self.listens_at

    async def stop(self, now=False):
        pass

c.JupyterHub.spawner_class = StandInSpawner
"""

# And by the peer's.
THEIRS_CONFIG = r"""
import json

class StandInSpawner(batchspawner.SlurmSpawner):
    async def start(self):
        with open("@WORK@/servers.json") as file:
            self.job_id = str(json.load(file)["jobs"][self.user.name])
        self.job_status = "RUNNING node"
        return "http://127.0.0.1:8998"

    async def stop(self, now=False):
        pass

c.JupyterHub.spawner_class = StandInSpawner
"""

# By both: an empty database, and a service that may start servers.
COMMON_CONFIG = r"""
c.JupyterHub.db_url = "sqlite:///:memory:"
c.JupyterHub.services = [*c.JupyterHub.services, {"name": "load", "api_token": "@TOKEN@"}]
c.JupyterHub.load_roles = [
    *c.JupyterHub.load_roles, {"name": "load", "scopes": ["admin:users", "admin:servers"], "services": ["load"]}
]
"""

# One process for all servers, with a certificate as a server has it, and without for the peer.
STAND_IN = r"""
import asyncio, os, ssl, sys, tornado.web
from pathlib import Path
import jupyterhub
from campushub_hub.certificates import Certificates, fingerprint

os.umask(0o077)
work, certificates = Path(sys.argv[1]), Certificates(Path(sys.argv[2]))

class Answer(tornado.web.RequestHandler):
    def check_xsrf_cookie(self):
        pass

    def get(self):
        self.set_header("X-JupyterHub-Version", jupyterhub.__version__)
        self.finish({"version": "stand-in"})

    def put(self):
        self.finish({"idle": 10, "saving": 0})

async def main():
    pair = certificates.for_server("everybody", "127.0.0.1")
    for name, text in pair._asdict().items():
        (work / name).write_text(text)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.directory / "centre-ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(work / "certificate", work / "key")
    application = tornado.web.Application([(".*", Answer)], log_function=lambda _: None)
    application.listen(8999, "127.0.0.1", ssl_options=context)
    application.listen(8998, "127.0.0.1")
    (work / "fingerprint").write_text(fingerprint(ssl.PEM_cert_to_DER_cert(pair.certificate)))
    await asyncio.Event().wait()

asyncio.run(main())
"""

# Runs on the hub after hub_client.py, hub_load.py, peer.py and PREPARE.
MEASURE = r"""
import concurrent.futures, platform, secrets, statistics, threading

TOKEN = secrets.token_hex(16)
ADDITION = pathlib.Path("/etc/jupyterhub/config.d/zz-bench-slurm.py")
WAYS = {"CampusHub": OURS, "batchspawner": THEIRS}

def log(text):
    print(text, file=sys.stderr, flush=True)

def session(url, name):
    hub = Hub(url, name)
    hub.login(name + "-secret")
    return hub

def jobs(*options):
    return run("squeue", "--noheader", "--format=%i", *options).split()

def rest():
    # A job that ends has the next one begin sooner: the scheduler looks then.
    while jobs():
        time.sleep(0.2)
    time.sleep(PAUSE)

def one(url):
    hub = session(url, NAMES[0])
    rest()
    begin = time.monotonic()
    ready = hub.start_until_ready()
    status, _, _ = hub.request(hub.server_path() + "lab")
    page = time.monotonic() - begin
    hub.stop()
    if status != 200:
        raise SystemExit(f"{url}: the server does not answer: {status}")
    return ready, page

def nodes(state):
    names = ",".join(sorted(set(run("sinfo", "--noheader", "--Node", "--format=%N").split())))
    reason = ["reason=benchmark"] if state == "drain" else []
    run("scontrol", "update", f"nodename={names}", f"state={state}", *reason)

def queue(url):
    hubs = [session(url, name) for name in NAMES]
    rest()
    ready, failed = [], []
    def start(hub):
        try:
            hub.start_until_ready()
            ready.append(time.monotonic())
        except (HubError, OSError) as error:
            failed.append(str(error)[:200])
    threads = [threading.Thread(target=start, args=(hub,)) for hub in hubs]
    nodes("drain")
    try:
        for thread in threads: thread.start()
        end = time.monotonic() + 240
        while len(jobs("--states=PENDING")) + len(failed) < len(hubs) and time.monotonic() < end:
            time.sleep(0.5)
        # The requests are answered that they wait, as a person's page is.
        time.sleep(12)
    finally:
        nodes("resume")
    begin = time.monotonic()
    for thread in threads: thread.join()
    with concurrent.futures.ThreadPoolExecutor(len(hubs)) as pool:
        for done in [pool.submit(hub.stop) for hub in hubs]:
            try:
                done.result()
            except (HubError, OSError) as error:
                log(f"stop: {error}"[:200])
    taken = sorted(moment - begin for moment in ready)
    log(f"{url}: {len(ready)} ready, last after {taken[-1] if taken else 0:.2f} s, failed {sorted(set(failed))[:3]}")
    return taken, failed

def row(what, results, wanted):
    ours, theirs = (statistics.median(results[way]) if results[way] else None for way in WAYS)
    shown = [f"{statistics.median(v):6.2f} ({min(v):.2f}-{max(v):.2f})" if v else "none" for v in results.values()]
    ratio = f"{ours / theirs:5.2f}" if ours and theirs else "-"
    print(f"{what:<36} {shown[0]:>20} {shown[1]:>20} {ratio:>6}   {wanted}", flush=True)

def measure_starts():
    ready, pages = {way: [] for way in WAYS}, {way: [] for way in WAYS}
    for turn in range(ROUNDS + 1):
        for way, url in WAYS.items():
            taken = one(url)
            log(f"{way}: ready after {taken[0]:.2f} s, page after {taken[1]:.2f} s")
            # The first of each warms caches up.
            if turn:
                ready[way].append(taken[0])
                pages[way].append(taken[1])
    row("one server, ready", ready, "1.0 s, 0.2")
    row("one server, its page", pages, "")

def measure_queue():
    last, failed = {}, {}
    for way, url in WAYS.items():
        taken, failed[way] = queue(url)
        last[way] = taken[-1:]
    row(f"{USERS} released at once, last ready", last, "0.3")
    print("failed: " + ", ".join(f"{way} {len(f)} {sorted(set(f))[:2] if f else ''}" for way, f in failed.items()))
    return len(failed["CampusHub"])

# Load

def asked():
    # Of sdiag; how often Slurm has been asked for jobs, by all.
    found = re.findall(r"^\s*REQUEST_JOB_INFO(?:_SINGLE)?\s.*?count:(\d+)", run("sdiag"), re.MULTILINE)
    return sum(map(int, found))

def sleeping(name):
    # As jobs of a user who may: the hub looks for the name of its own.
    options = ["--parsable", "--no-requeue", "--time=120", "--mem=10M", "--ntasks=1", "--cpus-per-task=1", "--chdir=/"]
    command = ["runuser", "-u", NAMES[0], "--", "sbatch", *options, "--output=/dev/null", f"--job-name={name}"]
    numbers = [int(run(*command, "--wrap=exec sleep 7200", cwd="/").partition(";")[0]) for _ in CROWD]
    end = time.monotonic() + 300
    while len(jobs("--states=RUNNING", f"--name={name}")) < len(numbers):
        if time.monotonic() > end:
            raise SystemExit(f"only {len(jobs('--states=RUNNING'))} of {len(numbers)} jobs run")
        time.sleep(1)
    return numbers

def describe(numbers):
    mark = pathlib.Path(WORK, "fingerprint").read_text()
    known = {"jobs": dict(zip(CROWD, numbers)), "uid": FIRST_UID, "fingerprint": mark}
    path = pathlib.Path(WORK, "servers.json")
    path.write_text(json.dumps(known))
    path.chmod(0o644)

def start_all(port):
    def start(name):
        status, _ = api(f"/users/{name}/server", "POST", {}, port=port)
        while status == 202 and not json.loads(api(f"/users/{name}", port=port)[1])["servers"].get("", {}).get("ready"):
            time.sleep(0.2)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(start, CROWD))

def window(unit, what, port):
    time.sleep(40)
    before, measured = asked(), Window({"hub": unit})
    time.sleep(MINUTES * 60)
    percent, calls = measured.percent()["hub"], (asked() - before) / MINUTES
    running = json.loads(api("/users?state=ready&limit=1000", port=port)[1])
    count = len(running["items"] if isinstance(running, dict) else running)
    print(f"{what}, {count} servers: {percent:.2f} % of a core, Slurm asked {calls:.1f} times a minute", flush=True)
    return percent

def load_of(unit, what, port, name):
    make_known(CROWD, port=port)
    without = window(unit, what, port)
    describe(sleeping(name))
    start_all(port)
    pathlib.Path(WORK, "started").touch()
    with_servers = window(unit, what, port)
    print(f"{what}: ratio {with_servers / without:.2f}, wanted 1.1", flush=True)

def cancel_all():
    subprocess.run(["scancel", "--user", NAMES[0]], capture_output=True)
    while jobs("--user", NAMES[0]):
        time.sleep(0.5)

def filled(text):
    return text.replace("@WORK@", WORK).replace("@TOKEN@", TOKEN)

def measure_load():
    settings = json.load(open("/etc/jupyterhub/settings.json"))
    pathlib.Path(WORK, "stand_in.py").write_text(STAND_IN)
    accounts(CROWD)
    run("systemd-run", "-q", "--collect", "--unit=bench-slurm-servers", "/opt/campushub/hub/bin/python",
        WORK + "/stand_in.py", WORK, settings["SlurmCluster"]["certificates"])
    while not os.path.exists(WORK + "/fingerprint"):
        time.sleep(0.1)
    subprocess.run(["systemctl", "stop", PEER], capture_output=True)
    try:
        ADDITION.touch(0o600)
        shutil.chown(ADDITION, "jupyterhub")
        ADDITION.write_text(filled(OURS_CONFIG + COMMON_CONFIG))
        run("systemctl", "restart", "jupyterhub")
        wait_for(OURS)
        load_of("jupyterhub", "CampusHub", 980, "campushub-" + platform.node().partition(".")[0])
    finally:
        run("systemctl", "stop", "jupyterhub")
        ADDITION.unlink(missing_ok=True)
        cancel_all()
    # Ours would ask as well meanwhile.
    start_peer("c.JupyterHub.services, c.JupyterHub.load_roles = [], []\n" + filled(THEIRS_CONFIG + COMMON_CONFIG))
    load_of(PEER, "batchspawner", 8100, "spawner-jupyterhub")

bad = 0
try:
    subprocess.run(["systemctl", "stop", PEER], capture_output=True)
    if ONLY != "load":
        start_peer()
        if ONLY in (None, "starts"):
            measure_starts()
        if ONLY in (None, "queue"):
            bad = measure_queue()
    if ONLY in (None, "load"):
        measure_load()
finally:
    ADDITION.unlink(missing_ok=True)
    subprocess.run(["systemctl", "stop", PEER, "bench-slurm-servers"], capture_output=True)
    for name in NAMES:
        subprocess.run(["scancel", "--user", name], capture_output=True)
    subprocess.run(["systemctl", "restart", "jupyterhub"], capture_output=True)
    remove_accounts()
    subprocess.run(["systemctl", "reset-failed"], capture_output=True)
    if not KEEP:
        clean(NAMES)
model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
system = dict(re.findall(r'^(\w+)="?([^"\n]*)', open("/etc/os-release").read(), re.M))["PRETTY_NAME"]
print(f"{system}, {os.cpu_count()} x {model[1] if model else platform.machine()}, {run('sinfo', '--version').strip()}")
raise SystemExit(bool(bad))
"""


def main() -> int:
    """Measure on the hosts and print the figures; fails if a server of ours did not start."""
    parser = argparse.ArgumentParser(description="Measure servers in a Slurm cluster, against batchspawner.")
    parser.add_argument("address", help="hub, on which site.yml was applied")
    parser.add_argument("nodes", nargs="+", help="nodes of its cluster")
    parser.add_argument("--user", default="admin", help="user with sudo there (default: %(default)s)")
    parser.add_argument("--key", default=str(ROOT / ".state/id_ed25519"), help="ssh key (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="starts of one user, each way (default: %(default)s)")
    parser.add_argument("--users", type=int, default=20, help="how many wait in the queue (default: %(default)s)")
    parser.add_argument("--servers", type=int, default=200, help="servers of a hub under load (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=3, help="how long each look at a hub's load takes (%(default)s)"
    )
    parser.add_argument("--pause", type=float, default=5, help="seconds before each start (default: %(default)s)")
    parser.add_argument("--only", choices=["starts", "queue", "load"], help="measure this alone")
    parser.add_argument("--keep", action="store_true", help="keep the peer and its users for another run")
    parser.add_argument("--group", default="jupyter-users", help="Unix group that may log in (default: %(default)s)")
    options = parser.parse_args()

    def execute(address: str, program: str) -> int:
        ssh = ["ssh", "-i", options.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        command = [*ssh, "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", f"{options.user}@{address}", "sudo python3 -"]
        return subprocess.run(command, input=program.encode(), check=False).returncode

    given = "".join(
        f"{name} = {value!r}\n"
        for name, value in {
            "USERS": options.users,
            "FIRST_UID": FIRST_UID,
            "ROUNDS": options.rounds,
            "CROWD": [f"crowd{number:03}" for number in range(options.servers)],
            "MINUTES": options.minutes,
            "PAUSE": options.pause,
            "ONLY": options.only,
            "KEEP": options.keep,
            "OURS_CONFIG": OURS_CONFIG,
            "THEIRS_CONFIG": THEIRS_CONFIG,
            "COMMON_CONFIG": COMMON_CONFIG,
            "STAND_IN": STAND_IN,
        }.items()
    )
    shared = peer.on_host(WORK, options.group)
    client = (ROOT / "tests/hub_client.py").read_text().partition("def main(")[0]
    try:
        with ThreadPoolExecutor() as pool:
            prepared = list(pool.map(lambda node: execute(node, shared + given + PREPARE), options.nodes))
        if any(prepared):
            return 1
        return execute(options.address, client + given + hub_load.ON_HOST + shared + PREPARE + MEASURE)
    finally:
        for node in [] if options.keep else options.nodes:
            execute(node, shared + given + CLEAN)


if __name__ == "__main__":
    sys.exit(main())
