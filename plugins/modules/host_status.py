"""What runs on a host, for people and for the health check after an upgrade."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.parse
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.user_subdomains import EXAMPLE, wildcard_problem

DOCUMENTATION = r"""
module: host_status
short_description: Say what runs on a host and whether it is well
description:
  - Looks at the units, asks the hub, its proxy and the web server whether they answer, and reads versions, the
    certificate that is served, the users' servers, disk and memory.
  - Changes nothing, and waits at most O(deadline) for each answer.
options:
  units:
    description: Units that must run, such as C(jupyterhub.service).
    type: list
    elements: str
    default: []
  answers:
    description: What must answer. Keys are names for people, values are URLs. Certificates are not checked here.
    type: dict
    default: {}
  server_name:
    description: Name whose certificate is looked at on the port of C(https) in O(https_port). Empty looks at none.
    type: str
    default: ''
  subdomains:
    description: Whether users have names below O(server_name), which the certificate and DNS must know.
    type: bool
    default: false
  https_port:
    description: Port on which the web server serves the certificate.
    type: int
    default: 443
  address:
    description: Address of the host that is asked, whatever the names in URLs lead to.
    type: str
    default: 127.0.0.1
  environments:
    description: Directory that holds the environments of hub, proxy and users.
    type: path
    default: /opt/campushub
  disks:
    description: Directories whose file systems are looked at.
    type: list
    elements: path
    default: [/, /home, /opt, /var]
  displays_check:
    description: What module C(displays_check) found on the host.
    type: path
    default: /var/lib/campushub/displays-check.json
  displays_engine:
    description: The engine that is wanted. With V(auto) TigerVNC in the place of Xpra is no fault.
    type: str
    default: auto
  maintenance:
    description: What C(campushub maintenance) has written.
    type: path
    default: /etc/campushub/maintenance.json
  deadline:
    description: Seconds to wait for an answer.
    type: int
    default: 5
  version:
    description: Version of CampusHub that the controller has. Empty compares none.
    type: str
    default: ''
  version_file:
    description: File in which the last complete installation has recorded its version.
    type: path
    default: /var/lib/campushub/version
"""

EXAMPLES = r"""
- name: Look at the host
  host_status:
    units: [jupyterhub.service]
    answers:
      hub: http://127.0.0.1:982/hub/api/
"""

RETURN = r"""
page:
  description: What was found, in lines for people.
  returned: always
  type: str
faults:
  description: What is not well, one sentence each.
  returned: always
  type: list
  elements: str
servers:
  description: How many users' servers run.
  returned: always
  type: int
version:
  description: Version of CampusHub that was installed last; empty where none is recorded.
  returned: always
  type: str
"""

# Packages whose versions people ask for, by environment.
SHOWN = {
    "hub": ("jupyterhub",),
    "user": ("jupyterlab", "notebook", "ipykernel"),
}
CERTIFICATE_DAYS = 14
LEAST_FREE = 0.05


class Unit(NamedTuple):
    """State of a unit as systemd tells it."""

    name: str
    active: str
    since: str
    restarts: int


def run(*command: str, text: str | None = None) -> str:
    """Return what a program prints; nothing when it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout if done.returncode == 0 else ""


def unit_states(names: list[str]) -> list[Unit]:
    """Ask systemd about units, all in one question."""
    if not names:
        return []
    output = run("systemctl", "show", "--property=Id,LoadState,ActiveState,ActiveEnterTimestamp,NRestarts", *names)
    states = []
    for name, block in zip(names, output.split("\n\n")):  # noqa: B905 (strict is newer than the Python of EL 9)
        values = dict(line.split("=", 1) for line in block.strip().splitlines() if "=" in line)
        active = "not installed" if values.get("LoadState") == "not-found" else values.get("ActiveState", "unknown")
        states.append(Unit(name, active, values.get("ActiveEnterTimestamp", ""), int(values.get("NRestarts") or 0)))
    return states


def answer(url: str, address: str, deadline: int) -> tuple[float, str]:
    """Ask a URL of this host, whatever its name leads to elsewhere; return the seconds it took and what is wrong."""
    parts = urllib.parse.urlsplit(url)
    name = parts.hostname or address
    started = time.monotonic()
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connection = http.client.HTTPConnection(name, port, timeout=deadline)
        connection.sock = socket.create_connection((address, port), deadline)
        if parts.scheme == "https":
            # What is asked is the program on this host; whether browsers will trust it is looked at on its own.
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection.sock = context.wrap_socket(connection.sock, server_hostname=name)
        with closing(connection):
            connection.request("GET", parts.path or "/")
            response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return time.monotonic() - started, f"does not answer ({reason})"
    fault = f"answers {response.status} {response.reason}" if response.status >= 400 else ""
    return time.monotonic() - started, fault


def served_certificate(name: str, address: str, port: int) -> str:
    """Return the certificate that this host serves for a name, among other text."""
    return run("openssl", "s_client", "-connect", f"{address}:{port}", "-servername", name, text="")


def certificate_end(served: str) -> dt.datetime | None:
    """Until when a certificate is valid."""
    text = run("openssl", "x509", "-noout", "-enddate", text=served).strip().partition("=")[2]
    if not text:
        return None
    return dt.datetime.strptime(text, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=dt.timezone.utc)


def subdomain_faults(served: str, name: str, deadline: int) -> list[str]:
    """What keeps browsers from users' servers, which have names below that of the hub."""
    problem = wildcard_problem(name, deadline)
    faults = [problem] if problem else []
    options = ("-noout", "-ext", "subjectAltName", "-checkhost", f"{EXAMPLE}.{name}")
    said = run("openssl", "x509", *options, text=served) if served else ""
    # Of names right below one without a dot, as the demo's localhost, openssl says that no wildcard is for them.
    if served and " does match " not in said and f"DNS:*.{name}" not in said.replace(",", " ").split():
        faults.append(f"The certificate of {name} is not for *.{name}, so that browsers refuse users' servers.")
    return faults


def versions(environment: Path, packages: tuple[str, ...]) -> list[str]:
    """Versions of packages, read from the names of their folders: nothing has to be started."""
    found = []
    for package in packages:
        for folder in sorted(environment.glob(f"lib/python3*/site-packages/{package}-*.dist-info")):
            found.append(f"{package} {folder.name[len(package) + 1 : -len('.dist-info')]}")  # noqa: PERF401 (clearer)
    return found


def environment_lines(base: Path) -> list[tuple[str, str]]:
    """Environments with their version and what is in them."""
    lines = []
    for name, packages in SHOWN.items():
        link = base / name
        if not link.is_symlink():
            continue
        others = [path for path in base.glob(f"{name}-*") if path.is_dir() and path.name != link.resolve().name]
        kept = f", {len(others)} older kept" if others else ""
        lines.append((f"{name} env", f"{', '.join(versions(link, packages)) or 'empty'} ({link.resolve().name}{kept})"))
    manifest = base / "proxy/node_modules/configurable-http-proxy/package.json"
    if manifest.is_file():
        lines.append(("proxy env", f"configurable-http-proxy {json.loads(manifest.read_text()).get('version')}"))
    return lines


def servers() -> tuple[int, int]:
    """How many users' servers run, and the bytes of memory that all users' programs have."""
    pattern = ("jupyterhub-user-*.service", "jupyterhub-user-*.scope")
    listed = run("systemctl", "list-units", "--plain", "--no-legend", "--state=running", *pattern).split("\n")
    slices = run("systemctl", "show", "--property=MemoryCurrent", "jupyterhub-*.slice")
    memory = sum(int(value) for value in re.findall(r"MemoryCurrent=(\d+)\b", slices) if int(value) < 2**62)
    return len([line for line in listed if line.strip()]), memory


def installed_version(record: str) -> str:
    """Version that the last complete installation has recorded; nothing where there was none."""
    path = Path(record)
    return path.read_text().strip() if path.is_file() else ""


def version_lines(installed: str, here: str) -> list[tuple[str, str]]:
    """Version of CampusHub on the host, and of the controller where that is another one."""
    if not installed:
        return []
    other = f"; the controller has {here}" if here not in ("", installed) else ""
    return [("campushub", f"{installed}{other}")]


def size(number: float) -> str:
    """Write bytes the way people read them."""
    return f"{number / 1000**3:.1f} GB" if number >= 1000**3 else f"{number / 1000**2:.0f} MB"


def disk_lines(places: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Free room of each file system once, and which are nearly full."""
    lines, faults, seen = [], [], set()
    for place in places:
        path = Path(place)
        if not path.exists() or path.stat().st_dev in seen:
            continue
        seen.add(path.stat().st_dev)
        usage = shutil.disk_usage(path)
        lines.append(("disk", f"{size(usage.free)} of {size(usage.total)} free on {place}"))
        if usage.free < LEAST_FREE * usage.total:
            faults.append(f"The disk of {place} is nearly full: {size(usage.free)} of {size(usage.total)} are free.")
    return lines, faults


def memory_line() -> tuple[str, str]:
    """Free and whole memory."""
    values = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE))
    return ("memory", f"{size(1024 * int(values['MemAvailable']))} of {size(1024 * int(values['MemTotal']))} available")


def display_line(file: Path, engine: str) -> tuple[list[tuple[str, str]], list[str]]:
    """What the check of Xpra found, and whether TigerVNC has to take its place; nothing where there was none."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return [], []
    version = f"Xpra {found['version']}".strip()
    if not found["ok"]:
        reason = found["reason"].rstrip(".")
        if engine == "auto":
            return [("displays", f"TigerVNC, for {version} failed its check: {reason}")], []
        fault = f"{version} does not work, so TigerVNC makes the displays: {reason}."
        return [("displays", f"TigerVNC, for {version} failed its check")], [fault]
    untested = "" if found["tested"] else ", with which CampusHub was not tested; its check passed"
    return [("displays", version + untested)], []


def maintenance_lines(file: Path) -> list[tuple[str, str]]:
    """Since when there is maintenance, which administrators, who are let in, may have forgotten; nothing without."""
    try:
        when = json.loads(file.read_text())["when"]
    except (OSError, ValueError, TypeError, LookupError):
        return []
    return [("maintenance", f"from {when} on, until ./campushub maintenance off; only administrators start servers")]


def twin_lines(journal: str) -> list[tuple[str, str]]:
    """Return which accounts share a UID, of those that the hub says it has refused for it."""
    lines = []
    for name in sorted(set(re.findall(r"User (\S+) is refused: UID \d+ is that of ", journal))):
        try:
            uid = pwd.getpwnam(name).pw_uid
            other = pwd.getpwuid(uid).pw_name
        except KeyError:
            continue
        if other != name:
            lines.append(("accounts", f"{name} cannot log in: UID {uid} is that of {other}. Give one of them another."))
    return lines


def look(parameters: dict[str, Any]) -> tuple[list[tuple[str, str]], list[str], int]:
    """Collect the lines of the page, the faults and the number of servers."""
    lines: list[tuple[str, str]] = version_lines(installed_version(parameters["version_file"]), parameters["version"])
    faults: list[str] = []
    for unit in unit_states(parameters["units"]):
        often = f", restarted {unit.restarts} times by systemd" if unit.restarts else ""
        lines.append(
            (unit.name.removesuffix(".service"), f"{unit.active}{f' since {unit.since}' if unit.since else ''}{often}")
        )
        if unit.active == "not installed":
            faults.append(f"{unit.name} is not installed. Install it first: ./campushub install -i INVENTORY")
        elif unit.active != "active":
            faults.append(f"{unit.name} is {unit.active}. Its journal says why: journalctl -u {unit.name} -n 50")
    for name, url in parameters["answers"].items():
        seconds, fault = answer(url, parameters["address"], parameters["deadline"])
        lines.append((name, fault or f"answers in {1000 * seconds:.0f} ms"))
        if fault:
            faults.append(f"{name} {fault} at {url}.")
    if parameters["server_name"]:
        served = served_certificate(parameters["server_name"], parameters["address"], parameters["https_port"])
        end = certificate_end(served)
        days = (end - dt.datetime.now(dt.timezone.utc)).days if end else 0
        lines.append(
            (
                "certificate",
                f"{parameters['server_name']} until {end:%Y-%m-%d} ({days} days)" if end else "none is served",
            )
        )
        if end and days < CERTIFICATE_DAYS:
            faults.append(f"The certificate of {parameters['server_name']} ends on {end:%Y-%m-%d}, in {days} days.")
        if parameters["subdomains"]:
            faults += subdomain_faults(served if end else "", parameters["server_name"], parameters["deadline"])
    lines += maintenance_lines(Path(parameters["maintenance"]))
    count, memory = servers()
    lines.append(("servers", f"{count} running" + (f", {size(memory)} of memory" if memory else "")))
    refused = ["--grep=is refused: UID", "--since=-7days"]
    lines += twin_lines(run("journalctl", "--quiet", "--no-pager", "--output=cat", "--unit=jupyterhub", *refused))
    lines += environment_lines(Path(parameters["environments"]))
    displays, broken = display_line(Path(parameters["displays_check"]), parameters["displays_engine"])
    disks, full = disk_lines(parameters["disks"])
    lines += [*displays, *disks, memory_line()]
    return lines, faults + broken + full, count


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "default": []},
            "answers": {"type": "dict", "default": {}},
            "server_name": {"type": "str", "default": ""},
            "subdomains": {"type": "bool", "default": False},
            "https_port": {"type": "int", "default": 443},
            "address": {"type": "str", "default": "127.0.0.1"},
            "environments": {"type": "path", "default": "/opt/campushub"},
            "disks": {"type": "list", "elements": "path", "default": ["/", "/home", "/opt", "/var"]},
            "displays_check": {"type": "path", "default": "/var/lib/campushub/displays-check.json"},
            "displays_engine": {"type": "str", "default": "auto"},
            "maintenance": {"type": "path", "default": "/etc/campushub/maintenance.json"},
            "deadline": {"type": "int", "default": 5},
            "version": {"type": "str", "default": ""},
            "version_file": {"type": "path", "default": "/var/lib/campushub/version"},
        },
        supports_check_mode=True,
    )
    lines, faults, count = look(module.params)
    width = max(len(label) for label, _ in lines) + 2
    page = [f"{label:{width}}{text}" for label, text in lines] + [f"NOT WELL: {fault}" for fault in faults]
    installed = installed_version(module.params["version_file"])
    module.exit_json(changed=False, page="\n".join(page), faults=faults, servers=count, version=installed)


if __name__ == "__main__":
    main()
