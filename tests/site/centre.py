"""The hosts of the site test: how they are started, installed, reached and cut off."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.hub_client import Hub, HubError

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = ROOT / "tests" / "hosts" / "testhost"
# What is left of a run: log of the installation, and screenshots and journals of what failed.
RESULTS = ROOT / ".state" / "test" / "site"

SITE_NAME = "University Computing Centre"
HELP_URL = "https://help.example.org/computing"
PASSWORDS = {name: f"{name}-Site-7" for name in ("alice", "bob", "carol", "dave")}
# Carol has what everybody has, bob as a physicist has more.
MEMORY_MB = 640
MEMORY_MB_PHYSICISTS = 1400

Json = dict[str, Any]


def password_hash(name: str) -> str:
    """Hash a password with a salt of its own, the same one each time, so that a second run changes nothing."""
    command = ["openssl", "passwd", "-6", "-salt", f"site{name}", "-stdin"]
    done = subprocess.run(command, input=PASSWORDS[name], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Return the first true answer of a condition; fail with what was waited for."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return answer


class Session(Hub):
    """A session of a user without a browser, beside a browser that has this thread's event loop."""

    def run(self, *args: Any, **kwargs: Any) -> str:
        """Run code in a kernel and return what it printed."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(super().run, *args, **kwargs).result()

    def shell(self, *args: Any, **kwargs: Any) -> str:
        """Run a command in a terminal and return what it printed."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(super().shell, *args, **kwargs).result()


@dataclass
class Host:
    """A test host with the whole centre on it."""

    name: str
    suite: str
    spawner: str
    # Ports of this machine from here on lead to the host, 0 is none. Hosts that start at the same time need numbers of
    # their own.
    first_port: int
    # Its name for browsers, where users' servers have names below it.
    domain: str = ""
    # Directories that other hosts have as well, as NAME:PATH.
    volumes: tuple[str, ...] = ()
    state: Json = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its address in the browser, which finds it through a port of this machine."""
        return f"https://{self.web_name}"

    @property
    def web_name(self) -> str:
        """Its name for browsers."""
        return self.domain or self.name

    def origin(self, user: str) -> str:
        """Return where what a user's server sends comes from."""
        return f"https://{user}.{self.domain}" if self.domain else self.url

    def port(self, inside: int) -> int:
        """Return the port of this machine that leads to one of the host's."""
        return int(self.state["ports"][str(inside)])

    def up(self) -> None:
        """Start the host, or find the one that runs."""
        command = [str(TESTHOST), "up", self.name, "--suite", self.suite]
        if self.first_port:
            command += ["--publish", f"{self.first_port}+:443", "--publish", f"{self.first_port + 50}+:80"]
        command += [word for volume in self.volumes for word in ("--volume", volume)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        self.state = json.loads(done.stdout)

    def down(self) -> None:
        """Remove the host."""
        self._ssh_control("exit")
        subprocess.run([str(TESTHOST), "down", self.name], check=True)

    def reboot(self) -> None:
        """Shut the host down, as its own `reboot` does, and start it again."""
        self._ssh_control("exit")
        self._podman("stop", "--time", "60", self.name)
        self.up()

    def cut_power(self) -> None:
        """End the host at once; nobody on the network gets a word of it."""
        self._ssh_control("exit")
        self._podman("exec", self.name, "ip", "link", "set", "eth0", "down")
        self._podman("kill", self.name)

    def run(self, command: str, check: bool = True, timeout: float = 60) -> str:
        """Run a shell command on the host as root and return what it printed."""
        done = subprocess.run(
            [*self._ssh(), f"sudo bash -c {shlex.quote(command)}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == 0 or not check, (
            f"{self.name}: {command}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def visit(self, user: str) -> Session:
        """Return a session of a user without a browser, before they log in."""
        return Session(self.url, user, address=("127.0.0.1", self.port(443)), subdomains=bool(self.domain))

    def hub(self, user: str) -> Session:
        """Return a session of a user without a browser, logged in."""
        hub = self.visit(user)
        hub.login(PASSWORDS[user])
        return hub

    def hub_with_server(self, user: str) -> Session:
        """Return such a session of a user whose server runs."""
        hub = self.hub(user)
        try:
            hub.start()
        except HubError as error:
            if "already running" not in str(error):
                raise
        return hub

    def main_pid(self, unit: str) -> int:
        """Return the main process of a unit, 0 if it does not run."""
        return int(self.run(f"systemctl show --value --property MainPID {unit}"))

    def server_pid(self, user: str) -> int:
        """Return the process of a user's running server; where it was forked, the older one accompanies it."""
        return int(self.run(f"pgrep --newest --uid {user} --full jupyterhub-singleuser"))

    def server_port(self, user: str) -> int:
        """Return the port that a user's server listens on."""
        sockets = self.run(
            f"ss --no-header --listening --tcp --numeric --processes | grep pid={self.server_pid(user)},"
        )
        return int(sockets.split()[3].rpartition(":")[2])

    @staticmethod
    def _podman(*words: str) -> None:
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        subprocess.run([*sudo, "podman", *words], check=True, capture_output=True)

    def _ssh(self) -> list[str]:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
        options += ["ControlMaster=auto", "ControlPersist=120", f"ControlPath={tempfile.gettempdir()}/%C"]
        settings = [part for option in options for part in ("-o", option)]
        return ["ssh", "-i", self.state["key"], *settings, f"{self.state['user']}@{self.state['address']}"]

    def _ssh_control(self, order: str) -> None:
        if self.state:
            subprocess.run([*self._ssh(), "-O", order], capture_output=True, check=False)


def inventory(hosts: list[Host]) -> Json:
    """Return what an administrator would write for these hosts."""
    accounts: list[Json] = [{"name": name, "password_hash": password_hash(name)} for name in PASSWORDS]
    settings = {
        # A controller behind a proxy that inspects TLS trusts more than the distribution does; so must its hosts.
        "base_ca_certificates": "{{ query('ansible.builtin.fileglob', '/usr/local/share/ca-certificates/*.crt') }}",
        "accounts_groups": [{"name": "physicists"}],
        "accounts_users": [
            {
                **account,
                "groups": ["physicists"] if account["name"] == "bob" else [],
                "access": account["name"] != "dave",
            }
            for account in accounts
        ],
        "jupyterhub_site_name": SITE_NAME,
        "jupyterhub_help_url": HELP_URL,
        "jupyterhub_admin_users": ["alice"],
        "jupyterhub_memory_limit": f"{MEMORY_MB}M",
        "jupyterhub_group_limits": [{"group": "physicists", "memory": f"{MEMORY_MB_PHYSICISTS}M"}],
        "web_server_aliases": ["localhost"],
        "web_tls_mode": "self_signed",
    }
    connection = {
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
    }
    hub = {
        host.name: {
            "ansible_host": host.state["address"],
            "ansible_user": host.state["user"],
            "ansible_ssh_private_key_file": host.state["key"],
            "jupyterhub_spawner": host.spawner,
            "web_server_name": host.web_name,
            "web_user_subdomains": bool(host.domain),
        }
        for host in hosts
    }
    return {"all": {"vars": connection | settings, "children": {"hub": {"hosts": hub}}}}


def apply_site(inventory_file: Path, *options: str) -> dict[str, Json]:
    """Run site.yml and return the numbers of each host (ok, changed, failures, …); fail with its last words."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    log = RESULTS / f"site{''.join(options)}.log"
    with log.open("w") as output:
        begin = time.monotonic()
        done = subprocess.run(
            ["ansible-playbook", "--inventory", str(inventory_file), str(ROOT / "site.yml"), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=ROOT,
            env=environment,
        )
        output.write(f"\n{time.monotonic() - begin:.1f} s\n")
    text = log.read_text()
    assert done.returncode == 0, f"site.yml {' '.join(options)} failed, see {log}:\n{text[-4000:]}"
    recap: dict[str, Json] = {}
    for line in text.rpartition("PLAY RECAP")[2].splitlines()[1:]:
        host, colon, numbers = line.partition(" : ")
        if colon:
            recap[host.strip()] = {key: int(number) for key, number in (pair.split("=") for pair in numbers.split())}
    return recap


def write_inventory(hosts: list[Host], directory: Path) -> Path:
    """Write the inventory into a folder and return its path."""
    path = directory / "hosts.yml"
    path.write_text(yaml.safe_dump(inventory(hosts), sort_keys=False))
    # It has hashes of passwords in it.
    path.chmod(0o600)
    return path
