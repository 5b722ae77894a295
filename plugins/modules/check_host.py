"""Check what a host must have before anything is installed on it, without changing it."""

from __future__ import annotations

import contextlib
import difflib
import email.utils
import glob
import hashlib
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils import result_cache
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.files import MARKER
from ansible.module_utils.system_groups import FIRST_GID, system_groups, table
from ansible.module_utils.user_subdomains import wildcard_problem

DOCUMENTATION = r"""
module: check_host
short_description: Check what a host must have before anything is installed on it
description:
  - Finds everything on a host that would stop an installation half way, not only the first fault. Ports that
    another program holds, too little disk or memory, no systemd, an old Python, package sources that do not
    answer, a clock that is far off, a hub that is not reached.
  - A host that cannot be reached, has no Python, or does not let its user become root is a message too, not a
    failure of the task.
  - Learns on the way which distribution it is, as M(ansible.builtin.setup) would, since to run one module more takes
    longer than to find that out.
  - Returns the results of modules that are still valid, so that these modules need not be run.
  - Changes nothing and takes as long as the slowest package source, at most O(deadline).
  - Adds its messages, each beginning with the name of the host, to the fact C(preflight_errors) while the variable
    C(preflight_collect) is true, and fails with them otherwise.
options:
  ports:
    description: Ports that must be free or held by one of the units that belong there.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: Number of the TCP port.
        type: int
        required: true
      addresses:
        description: Addresses of the host that the port will be opened on; those of IPv6 may be in brackets.
        type: list
        elements: str
        default: [0.0.0.0]
      units:
        description: systemd units that may hold it.
        type: list
        elements: str
        default: []
      purpose:
        description: What needs the port, as the end of "is needed for".
        type: str
        required: true
      remedy:
        description: What else to do than to stop the other program, such as the name of the setting.
        type: str
        default: ''
  disk_path:
    description: Directory that will be filled. The nearest one above it that exists is looked at.
    type: path
    default: /opt/campushub
  disk_mb:
    description: How much must be free there, in megabytes.
    type: int
    default: 0
  installed_disk_mb:
    description: How much must be free on a host that has been installed before, in megabytes, by directory.
    type: dict
    default: {}
  memory_mb:
    description: How much memory the host must have, in megabytes.
    type: int
    default: 0
  installed_path:
    description:
      - When this exists the host has been installed before. The disk needs O(installed_disk_mb) only, and
        package sources that do not answer are a warning, since a change of settings does not need them.
    type: path
    default: ''
  sources:
    description: Package sources that must answer.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description:
          - What to ask for. C(apt) stands for the sources that apt has on the host, and C(apt:) before a URL for a
            mirror of the host's distribution there.
        type: str
        required: true
      setting:
        description: The variable that gives it.
        type: str
        required: true
  http_proxy:
    description: Proxy for C(http) sources.
    type: str
    default: ''
  https_proxy:
    description: Proxy for C(https) sources.
    type: str
    default: ''
  no_proxy:
    description: Names that are reached without a proxy, with commas between them.
    type: str
    default: ''
  ca_certificates:
    description: Certificates in PEM that are trusted besides those of the host.
    type: list
    elements: str
    default: []
  names:
    description: Users and groups that settings name. Each must be on the host or be among those that will be made.
    type: list
    elements: dict
    default: []
    suboptions:
      setting:
        description: The variable that names them.
        type: str
        required: true
      kind:
        description: What they are names of.
        type: str
        choices: [user, group]
        required: true
      names:
        description: The names.
        type: list
        elements: str
        required: true
      planned:
        description: Names that will be made.
        type: list
        elements: str
        default: []
      planned_in:
        description: The variable that lists what will be made.
        type: str
        required: true
      elsewhere:
        description: Where else a name may come from, as the end of a sentence; then one that is unknown is a warning.
        type: str
        default: ''
  login_groups:
    description: Groups whose members alone may log in. It is a warning when they have none.
    type: list
    elements: str
    default: []
  managed_names:
    description: Names of users and groups that a role makes or removes, by setting. None may be a group of the system.
    type: dict
    default: {}
  subdomains_of:
    description: Name below which users have names, for which DNS should have a record C(*). Empty asks for none.
    type: str
    default: ''
  directory:
    description:
      - Whether accounts will come from a directory. As long as the host does not ask it, names that it may have are not
        looked up.
    type: bool
    default: false
  reach:
    description: Where the host must be able to connect to. That nothing listens there yet is no fault.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: Name or address.
        type: str
        required: true
      port:
        description: Number of the TCP port.
        type: int
        required: true
      purpose:
        description: What is there, as the end of "is not reached".
        type: str
        required: true
      setting:
        description: The variable that gives the address.
        type: str
        required: true
  cluster:
    description: Whether to return what hosts of a Slurm cluster must have in common, which role C(slurm) compares.
    type: bool
    default: false
  devices:
    description: Files of devices that the host must have, as of the GPUs that jobs of a Slurm cluster may have.
    type: list
    elements: str
    default: []
  markers:
    description: Patterns of files by which roles know what they have done on the host, one to a version.
    type: list
    elements: str
    default: []
  result_cache:
    description: Whether to return the valid results of other modules, which then need not be run.
    type: bool
    default: true
  deadline:
    description: Seconds after which a package source, or a directory of users, counts as silent.
    type: int
    default: 5
"""

EXAMPLES = r"""
- name: Check the host
  check_host:
    disk_mb: 5000
    memory_mb: 1500
    ports:
      - port: 443
        units: [nginx.service]
        purpose: the reverse proxy
    sources:
      - url: apt
        setting: base_apt_mirror
"""

RETURN = r"""
problems:
  description: One message for each fault.
  returned: always
  type: list
  elements: str
ansible_facts:
  description: What M(ansible.builtin.setup) says of the distribution, and the state of the host.
  returned: when the host could be asked
  type: dict
  contains:
    campushub:
      description:
        - What roles may leave out on this host. They do without the fact where they are applied by themselves.
      returned: with a cache of facts that ends with the run, as that of ansible.cfg
      type: dict
      contains:
        packages:
          description: Names of the packages that the host has. A role whose packages are there need not ask apt.
          type: list
          elements: str
        system_users:
          description: Local users that are the system's, each with the groups that name it.
          type: dict
        environments:
          description: Links in O(disk_path), as environments have. One without a link has to be installed.
          type: list
          elements: str
        markers:
          description: Those files of O(markers) that are there. What one stands for need not be done.
          type: list
          elements: str
        cached_results:
          description:
            - The valid results of modules that found nothing to change, by their keys.
            - Null with O(result_cache=false).
          type: dict
        cluster:
          description:
            - Release of Slurm (C(version)), name under which a controller has run (C(name)), fingerprint of munge's key
              (C(key)), whether the configuration of Slurm is not ours (C(foreign)), and the time (C(time)). Of what is
              missing an empty text.
            - In place of the time, the seconds by which the clock is ahead of that of Ansible's controller (C(clock)).
          returned: with O(cluster=true)
          type: dict
"""

OLDEST_PYTHON = (3, 9)
OS_RELEASE = Path("/etc/os-release")
# What Ansible calls them.
DISTRIBUTIONS = {
    "debian": "Debian",
    "ubuntu": "Ubuntu",
    "rhel": "RedHat",
    "rocky": "Rocky",
    "almalinux": "AlmaLinux",
    "centos": "CentOS",
    "ol": "OracleLinux",
}
# Where sssd, which asks a directory, can be asked.
SSSD_SOCKET = Path("/var/lib/sss/pipes/nss")
CLOCK_TOLERANCE = 300
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 (nothing is opened)


class Listener(NamedTuple):
    """A TCP socket that waits for connections."""

    port: int
    address: str
    inode: str


class Answer(NamedTuple):
    """What a package source said: a fault in words, and how far the clocks are apart in seconds."""

    fault: str | None
    remedy: str = ""
    skew: float | None = None


def address_of(field: str) -> tuple[str, int]:
    """Translate `0100007F:1F40`, as /proc/net/tcp writes it, to an address and a port."""
    host, port = field.split(":")
    words = [
        bytes.fromhex(host[i : i + 8])[::-1] if sys.byteorder == "little" else bytes.fromhex(host[i : i + 8])
        for i in range(0, len(host), 8)
    ]
    packed = b"".join(words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed), int(port, 16)


def listeners(proc: Path) -> list[Listener]:
    """All TCP sockets that listen, of both families."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A":
                address, port = address_of(fields[1])
                found.append(Listener(port, address, fields[9]))
    return found


def conflicts(wanted: list[str], held: str) -> bool:
    """Whether a socket on one address keeps another program from the same port of others."""
    addresses = [address.strip("[]") for address in wanted]
    return any(address in WILDCARDS or held in (*WILDCARDS, address, f"::ffff:{address}") for address in addresses)


def holders(proc: Path, inodes: set[str]) -> dict[str, tuple[str, str]]:
    """Name and unit of the processes that hold the sockets, by inode."""
    found: dict[str, tuple[str, str]] = {}
    links = {f"socket:[{inode}]": inode for inode in inodes}
    # systemd, which holds a socket together with the service that it passed the socket to, is asked last.
    for directory in sorted(proc.glob("[0-9]*"), key=lambda directory: directory.name == "1"):
        # A process may end while it is looked at, and one that has much to do closes descriptors meanwhile.
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(directory / "fd"):
                if (target := target_of(descriptor.path)) in links:
                    found.setdefault(links[target], process(directory))
        if len(found) == len(inodes):
            break
    return found


def target_of(link: str) -> str:
    """Return where a link leads; nothing if it has gone."""
    try:
        return os.readlink(link)
    except OSError:
        return ""


def process(directory: Path) -> tuple[str, str]:
    """Name and systemd unit of a process."""
    name = (directory / "comm").read_text().strip()
    units = re.findall(r"/([^/\n]+\.(?:service|scope|socket))", (directory / "cgroup").read_text())
    return f"{name} (process {directory.name})", units[-1] if units else ""


def port_problems(ports: list[dict[str, Any]], proc: Path = Path("/proc")) -> list[str]:
    """Say which ports something else holds."""
    problems = []
    open_sockets = listeners(proc)
    taken = [
        (wanted, socket_)
        for wanted in ports
        for socket_ in open_sockets
        if socket_.port == wanted["port"] and conflicts(wanted["addresses"], socket_.address)
    ]
    who = holders(proc, {socket_.inode for _, socket_ in taken}) if taken else {}
    for wanted, socket_ in taken:
        name, unit = who.get(socket_.inode, ("a program that cannot be seen from here", ""))
        if unit in wanted["units"]:
            continue
        if unit:
            name += f" of {unit}"
        remedy = "Stop that program" + (f" or {wanted['remedy']}" if wanted["remedy"] else "") + "."
        problem = f"port {wanted['port']} is needed for {wanted['purpose']} but {name} holds it. {remedy}"
        if problem not in problems:
            problems.append(problem)
    return problems


def disk_problems(path: str, megabytes: int) -> list[str]:
    """Say whether the file system of a directory, or of where it will be, has too little room."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    state = os.statvfs(place)
    free = state.f_bavail * state.f_frsize // 1000**2
    if free >= megabytes:
        return []
    return [
        (
            f"{path} has {free} MB of free disk (on {place}) and needs {megabytes} MB. "
            "Free some or mount a bigger disk there."
        )
    ]


def memory_problems(megabytes: int, meminfo: Path = Path("/proc/meminfo")) -> list[str]:
    """Say whether the host has too little memory."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    total = int(match.group(1)) * 1024 // 1000**2 if match else 0
    if total >= megabytes:
        return []
    return [f"memory is {total} MB and the least that works is {megabytes} MB. Give the host more memory."]


def known(database: str, names: list[str], seconds: int) -> set[str] | None:
    """Return those names that the host knows; None if it did not say so in time, as when its directory is down."""
    try:
        # A process of its own, for a directory that hangs must not hang this one.
        command = ["getent", "--", database, *names]
        listed = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {line.partition(":")[0] for line in listed.splitlines()}


def people(kind: str, etc: Path = Path("/etc")) -> list[str]:
    """Return the local users or groups that are not the system's: what a misspelt name may have meant."""
    lines = (etc / ("passwd" if kind == "user" else "group")).read_text().splitlines()
    fields = [line.split(":") for line in lines if line.count(":") >= 2]
    return [field[0] for field in fields if field[2].isdigit() and 1000 <= int(field[2]) < 65534]


def name_problems(wanted: list[dict[str, Any]], seconds: int) -> tuple[list[str], list[str]]:
    """Say which users and groups nobody knows; return the faults and, apart, what could not be found out or may be."""
    problems, unknown = [], []
    for entry in wanted:
        database, kind, place = ("passwd" if entry["kind"] == "user" else "group"), entry["kind"], entry["planned_in"]
        names = [name for name in entry["names"] if name not in entry["planned"]]
        found = known(database, names, seconds) if names else set()
        if found is None:
            unknown.append(
                f"{entry['setting']} could not be checked: the host did not say within {seconds} s which {kind}s it has"
            )
            continue
        for name in names:
            if name not in found:
                nearest = difflib.get_close_matches(name, {*entry["planned"], *people(kind)}, n=1, cutoff=0.6)
                said = f'{entry["setting"]} = ["{name}"] names a {kind} that is neither in {place} nor on the host.'
                guess = f"Did you mean {nearest[0]}?" if nearest else ""
                if entry.get("elsewhere"):
                    unknown.append(f"{said} It counts {entry['elsewhere']}. {guess}".rstrip())
                else:
                    problems.append(f"{said} {guess or f'Correct it, or add it to {place}.'}")
    return problems, unknown


def login_warnings(groups: list[str], seconds: int) -> list[str]:
    """Say that nobody may log in where none of these groups of the host has a member; no groups are no question."""
    if not groups:
        return []
    try:
        done = subprocess.run(
            ["getent", "--", "group", *groups], capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return []
    # NAME:x:GID:MEMBERS
    if any(not line.endswith(":") for line in done.stdout.splitlines()):
        return []
    nobody = f"Nobody may log in yet: neither the settings nor the group {' or '.join(groups)} names anybody."
    return [f"{nobody} Add people to accounts_users."]


def managed_name_problems(managed: dict[str, list[str]], etc: Path = Path("/etc")) -> list[str]:
    """Say which users would get the rights of a group of the system, and which of its groups would be changed."""
    systems = system_groups(etc)
    return [
        f'{setting} = ["{name}"] is the name of a group of the system on this host. Choose another name.'
        for setting, names in managed.items()
        for name in names
        if name in systems
    ]


def system_problems(
    run: Path = Path("/run/systemd/system"), python: tuple[int, ...] = sys.version_info[:3]
) -> list[str]:
    """Say whether the host has another init than systemd or too old a Python."""
    problems = []
    if not run.is_dir():
        problems.append(
            "does not run systemd, which starts, stops and limits everything here. "
            "Use a machine that was booted with systemd."
        )
    if python < OLDEST_PYTHON:
        problems.append(
            f"its Python ({sys.executable}) is {'.'.join(map(str, python))} and {'.'.join(map(str, OLDEST_PYTHON))} is "
            "needed. "
            "Install a newer one and name it in ansible_python_interpreter."
        )
    return problems


def packages() -> list[str]:
    """Return the names of the distribution's packages that are installed."""
    queries = (
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\\n"],
        ["rpm", "-qa", "--qf", "installed %{NAME}\\n"],
    )
    for query in queries:
        try:
            listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        return sorted({line.split()[1] for line in listed.splitlines() if line.startswith("installed ")})
    return []


def system_users(etc: Path = Path("/etc")) -> dict[str, list[str]]:
    """Return the local users that are the system's, each with the groups that name it."""
    found: dict[str, list[str]] = {
        name: [] for name, _, number, *_ in table(etc / "passwd", 4) if number.isdigit() and int(number) < FIRST_GID
    }
    for group, _, _, members, *_ in sorted(table(etc / "group", 4)):
        for name in members.split(","):
            if name in found:
                found[name].append(group)
    return found


def text_of(file: Path) -> str:
    """Return what a file says; nothing where there is none."""
    return file.read_text(errors="replace") if file.is_file() else ""


def slurm_release() -> str:
    """Return the release of Slurm that is installed, as 24.11; nothing without one."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "slurm-wlm-basic-plugins"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
    found = re.match(r"installed (?:\d+:)?(\d+[.]\d+)", listed)
    return found.group(1) if found else ""


def cluster_facts(root: Path = Path("/")) -> dict[str, Any]:
    """Return what hosts of a Slurm cluster must have in common."""
    configuration = text_of(root / "etc/slurm/slurm.conf")
    key = root / "etc/munge/munge.key"
    return {
        "version": slurm_release(),
        # A number follows the name since 24.11.
        "name": text_of(root / "var/lib/slurm/slurmctld/clustername").partition("|")[0].strip(),
        "key": hashlib.sha256(key.read_bytes()).hexdigest()[:16] if key.is_file() else "",
        "foreign": bool(configuration) and MARKER not in configuration,
        "time": time.time(),
    }


def device_problems(wanted: list[str]) -> list[str]:
    """Say which devices of GPUs are missing."""
    missing = [path for path in wanted if not Path(path).is_char_device()]
    if not missing:
        return []
    problem = f"this host has no device {', '.join(missing)}, so that slurmd would not start"
    remedy = "Install the driver of the card (nvidia-smi lists it), or name the files of its devices in slurm_gpu_files"
    return [f"slurm_gpus = {len(wanted)} but {problem}. {remedy}."]


def reach_problem(address: str, port: int, seconds: int) -> str:
    """Say what keeps this host from a port of another; nothing if it can connect, or nothing listens there."""
    try:
        socket.create_connection((address, port), seconds).close()
    except ConnectionRefusedError:
        return ""
    except socket.gaierror:
        return "its name cannot be resolved"
    except (TimeoutError, socket.timeout):  # noqa: UP041 (another one before Python 3.10)
        return f"no answer in {seconds} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def reach_problems(wanted: list[dict[str, Any]], seconds: int) -> list[str]:
    """Say which ports of other hosts cannot be reached from here, all of them asked at once."""
    answers: dict[int, str] = {}

    def work(number: int) -> None:
        answers[number] = reach_problem(wanted[number]["address"], wanted[number]["port"], seconds)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(wanted))]
    for thread in threads:
        thread.start()
    # To look up a name may take longer.
    end = time.monotonic() + seconds + 0.5
    problems = []
    for number, (entry, thread) in enumerate(zip(wanted, threads)):  # noqa: B905 (strict is newer than EL 9's Python)
        thread.join(max(0.0, end - time.monotonic()))
        fault = answers.get(number, f"no answer in {seconds} s")
        if fault:
            problems.append(
                f"{entry['purpose']} is not reached at {entry['address']}, port {entry['port']}: {fault}. Open that "
                f"port for this host in firewalls, or correct {entry['setting']}."
            )
    return problems


def os_release(file: Path = OS_RELEASE) -> dict[str, str]:
    """What a distribution says of itself, as os-release(5) has it."""
    pattern = re.compile(r"^(\w+)=[\"']?(.*?)[\"']?$", re.MULTILINE)
    return {"ID": "linux", **dict(pattern.findall(file.read_text() if file.is_file() else ""))}


def distribution(file: Path = OS_RELEASE) -> dict[str, str]:
    """Return Ansible's facts of the distribution. Its own program for them reads those of all systems there are."""
    said = os_release(file)
    version = said.get("VERSION_ID", "")
    facts = {
        "distribution": DISTRIBUTIONS.get(said["ID"], said.get("NAME", said["ID"])),
        "distribution_version": version,
        "distribution_major_version": version.split(".")[0],
        "distribution_release": said.get("VERSION_CODENAME", ""),
        "os_family": "Debian" if "debian" in (said["ID"], *said.get("ID_LIKE", "").split()) else "RedHat",
    }
    return {f"ansible_{name}": value for name, value in facts.items()}


def release_of(mirror: str, file: Path = OS_RELEASE) -> str:
    """The file that a mirror must have for this host's distribution."""
    name = os_release(file).get("VERSION_CODENAME")
    return f"{mirror.rstrip('/')}/dists/{name}/Release" if name else mirror


def apt_sources(etc: Path = Path("/etc/apt")) -> list[str]:
    """Release files of the sources that apt has, one a server."""
    text = ""
    for file in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]:
        text += file.read_text() if file.is_file() else ""
    found = re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?(https?://\S+)\s+(\S+)", text, re.MULTILINE)
    for file in sorted((etc / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            fields = dict(re.findall(r"^(Types|URIs|Suites|Enabled):[ \t]*(.*)$", stanza, re.MULTILINE | re.IGNORECASE))
            fields = {name.lower(): value.split() for name, value in fields.items()}
            if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"] and fields.get("suites"):
                found += [(uri, fields["suites"][0]) for uri in fields.get("uris", []) if uri.startswith("http")]
    servers: dict[str, str] = {}
    for uri, suite in found:
        release = f"{suite.rstrip('/')}/Release" if suite.endswith("/") else f"dists/{suite}/Release"
        servers.setdefault(uri.split("/")[2], f"{uri.rstrip('/')}/{release}")
    return list(servers.values())


def refusal(error: urllib.error.HTTPError) -> Answer:
    """What an answer other than success means."""
    skew = skew_of(error.headers.get("Date")) if error.headers else None
    status = f"{error.code} {error.reason}".strip()
    if error.code in (405, 501):
        return Answer(None, skew=skew)  # It is there; it only does not like the question.
    if error.code == 407:
        return Answer("the proxy asks for a password", "Put user and password in the URL of the proxy")
    if error.code in (401, 403):
        return Answer(f"it refuses with {status}", "Put user and password in the URL, have this host allowed", skew)
    return Answer(f"it answers {status}", "Check the path of the URL", skew)


def silence(reason: Any, seconds: int) -> Answer:
    """What it means that there is no answer at all."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        fault = f"its certificate is not trusted ({reason.verify_message})"
        return Answer(fault, "Put the certificate of the site's authority in base_ca_certificates")
    if isinstance(reason, socket.gaierror):
        return Answer("its name cannot be resolved", "Check the name, /etc/resolv.conf and the proxy settings")
    if isinstance(reason, TimeoutError):
        return no_answer(seconds)
    fault = f"no connection ({getattr(reason, 'strerror', None) or reason})"
    return Answer(fault, "Check the URL, the firewall and the proxy settings")


def no_answer(seconds: int) -> Answer:
    """Something swallows the packets."""
    return Answer(f"no answer in {seconds} s", "Check the firewall and the proxy settings")


def ask(opener: urllib.request.OpenerDirector, url: str, seconds: int) -> Answer:
    """Ask a package source for nothing but whether it is there."""
    try:
        request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "campushub"})  # noqa: S310 (settings)
        with opener.open(request, timeout=seconds) as response:
            return Answer(None, skew=skew_of(response.headers.get("Date")))
    except urllib.error.HTTPError as error:
        return refusal(error)
    except urllib.error.URLError as error:
        return silence(error.reason, seconds)
    except (OSError, ValueError) as error:
        return silence(error, seconds)


def skew_of(date: str | None) -> float | None:
    """Seconds by which the clock here is ahead of a Date header."""
    parsed = email.utils.parsedate_tz(date) if date else None
    return time.time() - email.utils.mktime_tz(parsed) if parsed else None


def shown_url(url: str) -> str:
    """A URL without the password that it may carry."""
    return re.sub(r"(?<=//)[^/@]*@", "…@", url)


def opener_for(parameters: dict[str, Any]) -> urllib.request.OpenerDirector:
    """Make what asks the sources: with the proxies and authorities that the roles will set up."""
    context = ssl.create_default_context()
    for certificate in parameters["ca_certificates"]:
        context.load_verify_locations(cadata=certificate)
    proxies = {scheme: parameters[f"{scheme}_proxy"] for scheme in ("http", "https") if parameters[f"{scheme}_proxy"]}
    # urllib looks for the exceptions in the environment only.
    os.environ["no_proxy"] = parameters["no_proxy"]
    # A question that was lost on its way to the name server is asked again while there is still time.
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:3")
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
    )


def source_problems(parameters: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Ask all sources at once; return the faults of sources and of the clock."""
    wanted: list[tuple[str, str]] = []
    for source in parameters["sources"]:
        urls = [source["url"]]
        if source["url"] == "apt":
            urls = apt_sources()
        elif source["url"].startswith("apt:"):
            urls = [release_of(source["url"].removeprefix("apt:"))]
        wanted += [(url, source["setting"]) for url in urls if (url, source["setting"]) not in wanted]
    try:
        opener = opener_for(parameters)
    except (ssl.SSLError, ValueError) as error:
        return [
            (
                f"base_ca_certificates has something that is no certificate in PEM ({error}). "
                "Give the text from BEGIN to END."
            )
        ], []
    answers: dict[str, Answer] = {}

    def work(url: str) -> None:
        answers[url] = ask(opener, url, parameters["deadline"])

    threads = [threading.Thread(target=work, args=(url,), daemon=True) for url, _ in wanted]
    for thread in threads:
        thread.start()
    # A deadline of the socket starts again with each step; this one holds for all of it.
    end = time.monotonic() + parameters["deadline"] + 0.5
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))

    problems, skews = [], []
    for url, setting in wanted:
        answer = answers.get(url) or Answer(
            f"no answer in {parameters['deadline']} s", "Check the firewall and the proxy settings"
        )
        if answer.fault:
            remedy = f"{answer.remedy}, or set {setting}" if setting not in answer.remedy else answer.remedy
            problems.append(f"the package source {shown_url(url)} is of no use: {answer.fault}. {remedy}.")
        if answer.skew is not None:
            skews.append(answer.skew)
    clock = []
    # A mirror with a wrong clock must not make the host's look wrong, so the nearest one counts.
    if skews and min(map(abs, skews)) > CLOCK_TOLERANCE:
        off = min(skews, key=abs)
        clock.append(
            f"its clock is {abs(round(off / 60))} minutes {'ahead of' if off > 0 else 'behind'} that of the package "
            "sources, so certificates and logins will fail. Switch on time synchronisation (timedatectl set-ntp true)."
        )
    return problems, clock


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "port": {"type": "int", "required": True},
                    "addresses": {"type": "list", "elements": "str", "default": [WILDCARDS[0]]},
                    "units": {"type": "list", "elements": "str", "default": []},
                    "purpose": {"type": "str", "required": True},
                    "remedy": {"type": "str", "default": ""},
                },
            },
            "disk_path": {"type": "path", "default": "/opt/campushub"},
            "disk_mb": {"type": "int", "default": 0},
            "installed_disk_mb": {"type": "dict", "default": {}},
            "memory_mb": {"type": "int", "default": 0},
            "installed_path": {"type": "path", "default": ""},
            "sources": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"url": {"type": "str", "required": True}, "setting": {"type": "str", "required": True}},
            },
            "http_proxy": {"type": "str", "default": ""},
            "https_proxy": {"type": "str", "default": ""},
            "no_proxy": {"type": "str", "default": ""},
            "ca_certificates": {"type": "list", "elements": "str", "default": []},
            "names": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "setting": {"type": "str", "required": True},
                    "kind": {"type": "str", "choices": ["user", "group"], "required": True},
                    "names": {"type": "list", "elements": "str", "required": True},
                    "planned": {"type": "list", "elements": "str", "default": []},
                    "planned_in": {"type": "str", "required": True},
                    "elsewhere": {"type": "str", "default": ""},
                },
            },
            "login_groups": {"type": "list", "elements": "str", "default": []},
            "managed_names": {"type": "dict", "default": {}},
            "directory": {"type": "bool", "default": False},
            "reach": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                    "purpose": {"type": "str", "required": True},
                    "setting": {"type": "str", "required": True},
                },
            },
            "cluster": {"type": "bool", "default": False},
            "devices": {"type": "list", "elements": "str", "default": []},
            "subdomains_of": {"type": "str", "default": ""},
            "markers": {"type": "list", "elements": "str", "default": []},
            "result_cache": {"type": "bool", "default": True},
            "deadline": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    installed = bool(parameters["installed_path"]) and Path(parameters["installed_path"]).exists()
    problems = system_problems()
    problems += port_problems(parameters["ports"])
    room = parameters["installed_disk_mb"] if installed else {parameters["disk_path"]: parameters["disk_mb"]}
    for path, megabytes in room.items():
        problems += disk_problems(path, int(megabytes))
    problems += memory_problems(parameters["memory_mb"])
    problems += managed_name_problems(parameters["managed_names"])
    problems += reach_problems(parameters["reach"], parameters["deadline"])
    problems += device_problems(parameters["devices"])
    misnamed: list[str] = []
    unknown: list[str] = []
    if not parameters["directory"] or SSSD_SOCKET.exists():
        misnamed, unknown = name_problems(parameters["names"], parameters["deadline"])
    problems += misnamed
    if parameters["subdomains_of"]:
        # The name server of the host may know less than that of browsers.
        unknown = [*unknown, *filter(None, [wildcard_problem(parameters["subdomains_of"], parameters["deadline"])])]
    unknown = [*unknown, *login_warnings(parameters["login_groups"], parameters["deadline"])]
    silent, clock = source_problems(parameters)
    if not installed:
        problems += silent
    for message in unknown + (silent if installed else []):
        module.warn(message)
    markers = [path for pattern in parameters["markers"] for path in glob.glob(pattern)]
    module.exit_json(
        changed=False,
        problems=problems + clock,
        ansible_facts={
            **distribution(),
            "campushub": {
                "packages": packages(),
                "system_users": system_users(),
                "environments": [path for path in glob.glob(f"{parameters['disk_path']}/*") if os.path.islink(path)],
                "markers": markers,
                "cached_results": result_cache.valid_results() if parameters["result_cache"] else None,
                **({"cluster": cluster_facts()} if parameters["cluster"] else {}),
            },
        },
    )


if __name__ == "__main__":
    main()
