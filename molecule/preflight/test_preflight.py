"""On a host with several faults at once, the checks name all of them and change nothing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.playbooks import run_playbook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

# Directories that change by themselves, and what a login through ssh writes.
RESTLESS = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/log", "/var/tmp", "/var/lib/systemd", "/home/admin")


def files(host: Host) -> set[str]:
    """Every file with the time it was changed."""
    prune = " -o ".join(f"-path {path}" for path in RESTLESS)
    listed = host.check_output(f"find / -xdev \\( {prune} \\) -prune -o -type f -printf '%C@ %m %u %p\\n'")
    return {line for line in listed.splitlines() if "__pycache__" not in line}


@pytest.fixture
def faults(host: Host) -> Iterator[None]:
    """Programs that hold ports which are needed, one on all addresses, one on the loopback address; and a group."""
    host.check_output("groupadd --system keepers")
    for unit, port, address in (("squatter", 443, "0.0.0.0"), ("lurker", 982, "127.0.0.1")):
        command = f"python3 -m http.server {port} --bind {address} --directory /run"
        host.check_output(f"systemd-run --quiet --unit={unit} {command}")
    for port in (443, 982):
        wait = f"for i in $(seq 50); do ss -ltnH 'sport = :{port}' | grep -q . && exit 0; sleep 0.1; done; exit 1"
        assert host.run(f"sh -c {wait!r}").rc == 0 or host.run(f"ss -ltnH 'sport = :{port}'").stdout
    yield
    host.check_output("systemctl stop squatter.service lurker.service; groupdel keepers")


BAD_SETTINGS: dict[str, Any] = {
    "accounts_users": [{"name": "ann"}, {"name": "keepers"}, {"name": "root", "state": "absent"}],
    "base_timezon": "UTC",
    "base_npm_registry": "http://127.0.0.1:9/npm",
    "base_apt_mirror": "http://mirror.invalid/debian",
    "jupyterhub_memory_limit": "2 gigs",
    "jupyterhub_allowed_groups": [],
    "web_tls_mode": "magic",
}


MESSAGES = """
- server: port 443 is needed for the reverse proxy but python3 (process …) of squatter.service holds it. Stop that
program or choose another web_https_port.

- server: port 982 is needed for the hub but python3 (process …) of lurker.service holds it. Stop that program or
choose another jupyterhub_hub_port.

- server: accounts_users = ["keepers"] is the name of a group of the system on this host. Choose another name.

- server: the package source http://127.0.0.1:9/npm/configurable-http-proxy is of no use: no connection (Connection
refused). Check the URL, the firewall and the proxy settings, or set base_npm_registry or
base_wheelhouse.

- server: the package source http://mirror.invalid/debian/dists/…/Release is of no use: its name cannot be resolved.
Check the name, /etc/resolv.conf and the proxy settings, or set base_apt_mirror.

- server: base_timezon is no setting of role base. Did you mean base_timezone?

- server: accounts_users[2].name = "root" belongs to the system. Choose another name.

- server: jupyterhub_memory_limit = "2 gigs" …

- server: jupyterhub_allowed_groups = [] …

- server: web_tls_mode = "magic" …
"""


@pytest.mark.chaos
@pytest.mark.parametrize("options", [(), ("--check",)], ids=["run", "check mode"])
@pytest.mark.parametrize("playbook", ["playbooks/preflight.yml", "site.yml"])
@pytest.mark.usefixtures("faults")
def test_all_faults_are_named_at_once_and_nothing_is_changed(
    host: Host, tmp_path: Path, playbook: str, options: tuple[str, ...]
) -> None:
    before = files(host)
    status, output, _ = run_playbook(host, tmp_path, playbook, *options, **BAD_SETTINGS)
    assert status != 0
    found = output[output.index(" to put right before anything is changed: ") :]
    for message in MESSAGES.strip().split("\n\n"):
        # An ellipsis stands for what differs from host to host.
        pattern = re.escape(" ".join(message.split())).replace("…", ".{1,60}")
        assert re.search(pattern, found), f"{message}\n{found}"
    assert files(host) == before


def test_host_without_faults_passes_quickly(host: Host, tmp_path: Path) -> None:
    before = files(host)
    status, output, seconds = run_playbook(host, tmp_path, "playbooks/preflight.yml")
    assert status == 0, output
    assert "changed=0" in output
    assert files(host) == before
    # It is part of every run, which may take 25 s.
    assert seconds < 12


# A stand-in for a name server that is busy: it loses each question the first time.
FORGETFUL = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.53", 53))
heard = set()
while True:
    question, asker = server.recvfrom(4096)
    if question[2:] in heard:
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.sendto(question, (sys.argv[1], 53))
        server.sendto(other.recv(4096), asker)
    heard.add(question[2:])
"""


@pytest.fixture
def forgetful_name_server(host: Host) -> Iterator[None]:
    settings = host.file("/etc/resolv.conf").content_string
    upstream = re.search(r"^nameserver (\S+)", settings, re.MULTILINE)
    assert upstream
    host.check_output(f"systemd-run --quiet --unit=forgetful python3 -c {shlex.quote(FORGETFUL)} {upstream[1]}")
    # The file is a mount of its own and cannot be replaced.
    host.check_output("echo nameserver 127.0.0.53 >/etc/resolv.conf")
    yield
    host.check_output(f"printf %s {shlex.quote(settings)} >/etc/resolv.conf; systemctl stop forgetful.service")


@pytest.mark.usefixtures("forgetful_name_server")
def test_source_is_not_silent_because_a_question_was_lost(host: Host, tmp_path: Path) -> None:
    status, output, _ = run_playbook(host, tmp_path, "playbooks/preflight.yml")
    assert status == 0, output
    assert "is of no use" not in output


def test_user_without_sudo(host: Host, tmp_path: Path) -> None:
    host.check_output(
        "id guest 2>/dev/null || { useradd --create-home guest && install -d -o guest -m 0700 ~guest/.ssh"
        " && install -o guest -m 0600 ~admin/.ssh/authorized_keys ~guest/.ssh/authorized_keys; }"
    )
    status, output, _ = run_playbook(host, tmp_path, "playbooks/preflight.yml", ansible_user="guest")
    assert status != 0
    assert re.search(
        r"- server: its user cannot become root: .{5,200}\. Allow sudo for ansible_user, or give its password with "
        r"--ask-become-pass\.",
        output,
    ), output
