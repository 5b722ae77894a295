#!/usr/bin/env python3
"""
How long people wait for their server after *Start*, against the same spawner as its project ships it.

    tests/benchmarks/start_server.py ADDRESS [--user admin] [--key .state/id_ed25519] [--rounds 7] [--users 20]

ADDRESS is a host on which site.yml was applied; which spawner is measured is what it is set to. Beside the host's hub
a second one is run: the same JupyterHub and proxy, the spawner's own class with its own defaults, and an environment
that pip would have made (the same versions of JupyterHub, JupyterLab and Notebook with all they ask for). Starts are
taken in turns, ours, theirs, ours, … and all is removed at the end. Time is from the request that the *Start* button
makes until a page of the server has arrived.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Runs on the host, as root, beside hub_client.py.
MEASURE = r"""
import json, os, platform, re, shutil, statistics, subprocess, sys, threading, time
sys.path.insert(0, "/opt/start-server")
from hub_client import Hub, HubError

WORK = "/opt/start-server"
OURS, THEIRS = "http://127.0.0.1:980", "http://127.0.0.1:8100"
NAMES = [f"bench{number:02}" for number in range(USERS)]
settings = json.load(open("/etc/jupyterhub/settings.json"))
sudo = "Sudo" in settings["JupyterHub"]["spawner_class"]

CONFIG = '''
c.JupyterHub.bind_url = "http://127.0.0.1:8100"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:8181"
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.cookie_secret_file = "cookie_secret"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8101"
c.ConfigurableHTTPProxy.command = ["/opt/campushub/proxy/bin/configurable-http-proxy"]
c.JupyterHub.spawner_class = "SPAWNER"
c.Spawner.cmd = ["/opt/start-server/user/bin/jupyterhub-singleuser"]
c.SudoSpawner.sudospawner_path = "/opt/start-server/user/bin/sudospawner"
c.Spawner.default_url = "/lab"
c.PAMAuthenticator.service = "jupyterhub"
c.Authenticator.allow_all = True
'''

def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)

def prepare():
    shutil.rmtree(WORK + "/user", ignore_errors=True)
    uv = "/opt/campushub/uv/bin/uv"
    run(uv, "venv", "-q", "--python", "/usr/bin/python3", WORK + "/user")
    python = WORK + "/user/bin/python"
    run(uv, "pip", "install", "-q", "--compile-bytecode", "--python", python, *PACKAGES, "sudospawner")
    for name in NAMES:
        subprocess.run(["useradd", "-m", "-s", "/bin/bash", "-G", GROUP, name], capture_output=True)
    run("chpasswd", input="".join(f"{name}:{name}-secret\n" for name in NAMES))
    os.makedirs(WORK + "/hub", exist_ok=True)
    spawner = "sudospawner.SudoSpawner" if sudo else "systemdspawner.SystemdSpawner"
    open(WORK + "/hub/config.py", "w").write(CONFIG.replace("SPAWNER", spawner))
    user = "root"
    if sudo:
        user = "jupyterhub"
        shutil.chown(WORK + "/hub", user)
        # As the spawner's README has it.
        rule = "jupyterhub ALL=(%GROUP) NOPASSWD: /opt/start-server/user/bin/sudospawner\n".replace("GROUP", GROUP)
        open("/etc/sudoers.d/start-server", "w").write(rule)
        os.chmod("/etc/sudoers.d/start-server", 0o440)
    path = "--setenv=PATH=/opt/campushub/hub/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run("systemd-run", "-q", "--collect", "--unit=start-server-peer", f"--uid={user}", path, "-p", "KillMode=mixed",
        f"--working-directory={WORK}/hub", "/opt/campushub/hub/bin/jupyterhub", "-f", WORK + "/hub/config.py")
    wait_for(THEIRS)

def wait_for(url):
    end = time.monotonic() + 60
    while subprocess.run(["curl", "-sf", "-o", "/dev/null", url + "/hub/api"]).returncode:
        if time.monotonic() > end:
            raise SystemExit(f"{url} does not answer; see: journalctl -u start-server-peer")
        time.sleep(0.2)

def session(url, name):
    hub = Hub(url, name)
    hub.login(name + "-secret")
    return hub

def one(url):
    hub = session(url, NAMES[0])
    seconds = hub.start()
    hub.stop()
    return seconds

def all_at_once(url):
    hubs = [session(url, name) for name in NAMES]
    results, failed = [], []
    begin = time.monotonic()
    def start(hub):
        try:
            hub.start()
            results.append(time.monotonic() - begin)
        except (HubError, OSError) as error:
            failed.append(str(error)[:200])
    threads = [threading.Thread(target=start, args=(hub,)) for hub in hubs]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    for hub in hubs:
        try:
            hub.stop()
        except HubError:
            pass
    return [max(results)] if len(results) == len(hubs) else [], failed

def clean():
    subprocess.run(["systemctl", "stop", "start-server-peer"], capture_output=True)
    subprocess.run("systemctl stop 'jupyter-bench*'", shell=True, capture_output=True)
    for name in NAMES:
        subprocess.run(["pkill", "-KILL", "-u", name], capture_output=True)
        subprocess.run(["userdel", "--remove", name], capture_output=True)
    if os.path.exists("/etc/sudoers.d/start-server"):
        os.unlink("/etc/sudoers.d/start-server")
    shutil.rmtree(WORK, ignore_errors=True)

def row(what, ours, theirs):
    def shown(values):
        return f"{statistics.median(values):6.2f} ({min(values):.2f}-{max(values):.2f})" if values else "none started"
    ratio = f"{statistics.median(ours) / statistics.median(theirs):8.2f}" if ours and theirs else "       -"
    print(f"{what:<34} {shown(ours):>20} {shown(theirs):>20} {ratio}")

try:
    prepare()
    one(OURS), one(THEIRS)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(one(OURS))
        theirs.append(one(THEIRS))
    crowd_ours, failed_ours = all_at_once(OURS)
    crowd_theirs, failed_theirs = all_at_once(THEIRS)
finally:
    clean()
model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
system = dict(re.findall(r'^(\w+)="?([^"\n]*)', open("/etc/os-release").read(), re.M))["PRETTY_NAME"]
processors = f"{os.cpu_count()} x {model[1] if model else platform.machine()}"
print(f"{system}, {processors}, spawner: {'sudo' if sudo else 'systemd'}")
print(f"{'seconds, median (min-max)':<34} {'CampusHub':>20} {'as shipped':>20} {'ratio':>8}")
row("one user", ours, theirs)
row(f"{USERS} users at once, all ready", crowd_ours, crowd_theirs)
print(f"failed: {len(failed_ours)} here, {len(failed_theirs)} as shipped {(failed_ours + failed_theirs)[:1]}")
raise SystemExit(bool(failed_ours))
"""


def main() -> int:
    """Measure on the host and print what it measured; fails if a server of ours did not start."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("address", help="host on which site.yml was applied")
    parser.add_argument("--user", default="admin", help="who logs in there, with sudo (%(default)s)")
    parser.add_argument("--key", default=str(ROOT / ".state/id_ed25519"), help="ssh key (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="starts of one user, each way (%(default)s)")
    parser.add_argument("--users", type=int, default=20, help="how many start at once (%(default)s)")
    parser.add_argument("--group", default="jupyter-users", help="Unix group that may log in (%(default)s)")
    arguments = parser.parse_args()

    lock = (ROOT / "roles/jupyter/files/requirements.txt").read_text()
    pins = re.findall(r"^((?:jupyterhub|jupyterlab|notebook|ipykernel)==[0-9.]+)", lock, re.MULTILINE)
    # A lock may have several versions of a package for several versions of Python; the newest is last.
    packages = list({pin.partition("==")[0]: pin for pin in pins}.values())
    ssh = ["ssh", "-i", arguments.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    ssh += ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", f"{arguments.user}@{arguments.address}"]
    client = (ROOT / "tests/hub_client.py").read_bytes()
    place = "sudo mkdir -p /opt/start-server && sudo tee /opt/start-server/hub_client.py >/dev/null"
    subprocess.run([*ssh, place], input=client, check=True)
    head = f"ROUNDS, USERS, GROUP = {arguments.rounds}, {arguments.users}, {arguments.group!r}\nPACKAGES = {packages}\n"
    script = (head + MEASURE).encode()
    return subprocess.run([*ssh, "sudo /opt/campushub/hub/bin/python -"], input=script, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
