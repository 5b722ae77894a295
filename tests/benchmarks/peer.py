"""
JupyterHub as it is shipped, on a test host beside CampusHub's: for benchmarks that compare the two.

The same JupyterHub and proxy, the spawner's own class with its own defaults, and an environment that pip would have
made (the same versions of JupyterHub, JupyterLab and Notebook with all they ask for). For servers in a Slurm cluster
the class is batchspawner's, which that environment then has, on the nodes as well.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The release that servers in a cluster are compared with.
BATCHSPAWNER = "batchspawner==1.3.0"

# Runs on the host, as root. Before it stand WORK, a directory there, PACKAGES, and GROUP, who may log in.
ON_HOST = r"""
import json, os, shutil, subprocess, time

OURS, THEIRS = "http://127.0.0.1:980", "http://127.0.0.1:8100"
try:
    settings = json.load(open("/etc/jupyterhub/settings.json"))
    sudo = "Sudo" in settings["JupyterHub"]["spawner_class"]
    # As it is where servers are jobs, if no profile says otherwise.
    slurm = settings.get("SpawnerTable", {}).get("default_run_on") == "slurm"
except FileNotFoundError:
    # A node.
    slurm = True
PEER = os.path.basename(WORK) + "-peer"

CONFIG = '''
c.JupyterHub.bind_url = "http://127.0.0.1:8100"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:8181"
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.cookie_secret_file = "cookie_secret"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8101"
c.ConfigurableHTTPProxy.command = ["/opt/campushub/proxy/bin/configurable-http-proxy"]
c.JupyterHub.spawner_class = "SPAWNER"
c.Spawner.cmd = ["WORK/user/bin/jupyterhub-singleuser"]
c.SudoSpawner.sudospawner_path = "WORK/user/bin/sudospawner"
c.Spawner.default_url = "/lab"
c.PAMAuthenticator.service = "jupyterhub"
c.Authenticator.allow_all = True
SLURM
# On a busy machine.
c.Spawner.http_timeout = c.Spawner.start_timeout = 300
'''

# What a hub with nodes needs: they reach it, and batchspawner has an address in it. All else is as it is by default.
SLURM = '''
import batchspawner
c.JupyterHub.hub_bind_url = "http://0.0.0.0:8181"
c.JupyterHub.hub_connect_ip = "ADDRESS"
c.BatchSpawnerBase.batchspawner_singleuser_cmd = "WORK/user/bin/batchspawner-singleuser"
'''

def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout

def make_users(names, first_uid=None):
    for number, name in enumerate(names):
        uid = ["-u", str(first_uid + number)] if first_uid else []
        subprocess.run(["useradd", "-m", "-s", "/bin/bash", "-G", GROUP, *uid, name], capture_output=True)
    run("chpasswd", input="".join(f"{name}:{name}-secret\n" for name in names))

def make_environment():
    shutil.rmtree(WORK + "/user", ignore_errors=True)
    uv = "/opt/campushub/uv/bin/uv"
    run(uv, "venv", "-q", "--python", "/usr/bin/python3", WORK + "/user")
    python, spawner = WORK + "/user/bin/python", BATCHSPAWNER if slurm else "sudospawner"
    run(uv, "pip", "install", "-q", "--compile-bytecode", "--python", python, *PACKAGES, spawner)

def start_peer(additions=""):
    if not os.path.exists(WORK + "/user"):
        make_environment()
    os.makedirs(WORK + "/hub", 0o700, exist_ok=True)
    spawner = "sudospawner.SudoSpawner" if sudo else "systemdspawner.SystemdSpawner"
    config, jupyterhub = CONFIG.replace("SLURM", SLURM if slurm else ""), "/opt/campushub/hub/bin/jupyterhub"
    if slurm:
        spawner, jupyterhub = "batchspawner.SlurmSpawner", WORK + "/user/bin/jupyterhub"
        config = config.replace("ADDRESS", settings["SlurmCluster"]["address"])
    config = config.replace("SPAWNER", spawner).replace("WORK", WORK) + additions
    open(WORK + "/hub/config.py", "w").write(config)
    user = "root"
    if sudo:
        user = "jupyterhub"
        shutil.chown(WORK + "/hub", user)
        # As the spawner's README has it.
        rule = f"jupyterhub ALL=(%{GROUP}) NOPASSWD: {WORK}/user/bin/sudospawner\n"
        open(f"/etc/sudoers.d/{PEER}", "w").write(rule)
        os.chmod(f"/etc/sudoers.d/{PEER}", 0o440)
    path = "--setenv=PATH=/opt/campushub/hub/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run("systemd-run", "-q", "--collect", f"--unit={PEER}", f"--uid={user}", path, "-p", "KillMode=mixed",
        f"--working-directory={WORK}/hub", jupyterhub, "-f", WORK + "/hub/config.py")
    wait_for(THEIRS.replace("http:", "https:") if "ssl_cert" in additions else THEIRS)

def wait_for(url):
    end = time.monotonic() + 180
    while subprocess.run(["curl", "-skf", "-o", "/dev/null", url + "/hub/api"]).returncode:
        if time.monotonic() > end:
            raise SystemExit(f"{url} does not answer; see: journalctl -u {PEER}")
        time.sleep(0.2)

def clean(names):
    subprocess.run(["systemctl", "stop", PEER], capture_output=True)
    subprocess.run("systemctl stop 'jupyter-bench*'", shell=True, capture_output=True)
    for name in names:
        subprocess.run(["pkill", "-KILL", "-u", name], capture_output=True)
        subprocess.run(["userdel", "--remove", name], capture_output=True)
    if os.path.exists(f"/etc/sudoers.d/{PEER}"):
        os.unlink(f"/etc/sudoers.d/{PEER}")
    shutil.rmtree(WORK, ignore_errors=True)
"""


def on_host(work: str, group: str) -> str:
    """Return a script for the host, with what stands before it."""
    lock = (ROOT / "roles/jupyter/files/requirements.txt").read_text()
    pins = re.findall(r"^((?:jupyterhub|jupyterlab|notebook|ipykernel)==[0-9.]+)", lock, re.MULTILINE)
    # A lock may have several versions of a package for several versions of Python; the newest is last.
    packages = list({pin.partition("==")[0]: pin for pin in pins}.values())
    given = f"WORK, GROUP, PACKAGES, BATCHSPAWNER = {work!r}, {group!r}, {packages!r}, {BATCHSPAWNER!r}\n"
    return given + ON_HOST
