"""Where Xpra comes from, what building it leaves on a host, and what happens where it does not work."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

ApplyRole = Callable[..., subprocess.CompletedProcess[str]]

SETTINGS = "/etc/jupyter/jupyter_displays_config.json"
REPOSITORIES = "/var/lib/campushub/xpra"
REPOSITORY = Path(__file__).resolve().parents[2] / "roles/displays/files/build/build-repository"
FOUND = "/var/lib/campushub/displays-check.json"
PACKAGES = ("xpra-common", "xpra-server", "xpra-x11", "xpra-codecs")
# In place of what builds: says what it can do, and fails.
PROBE = r"""#!/bin/sh
[ "$1" = build ] || exit 0
echo "user $(id -u)"
cat /etc/shadow /etc/ssh/ssh_host_ed25519_key && echo reads secrets
ls /home/alice /root && echo reads homes
cat /tmp/of-bob && echo sees what others have in tmp
touch /usr/bin/x /etc/x /var/lib/campushub/x && echo writes
python3 -c 'import socket; socket.create_connection(("127.0.0.1", 22), 3)' && echo has a network
ls /proc/1/environ && cat /proc/1/environ && echo sees processes of others
sudo -n true && echo becomes root
touch "$2/packages"
exit 7
"""


@pytest.fixture
def built(host: Host) -> str:
    """The repository of the packages that were built."""
    if os.environ.get("XPRA_APT_URL"):
        pytest.skip("Xpra is not built where XPRA_APT_URL names a repository")
    return str(host.check_output(f"ls -d {REPOSITORIES}/*/"))


def engine(host: Host) -> str:
    settings: dict[str, Any] = json.loads(host.file(SETTINGS).content_string)
    return str(settings["DisplayManager"]["engine"])


def test_xpra_is_new_enough_and_was_checked(host: Host) -> None:
    """A display was started with it, and the users' settings name it."""
    assert all(host.package(name).version.startswith("6.") for name in PACKAGES)
    found = json.loads(host.file(FOUND).content_string)
    assert (found["engine"], found["ok"], found["tested"]) == ("xpra", True, True), found
    assert engine(host) == "xpra"


@pytest.mark.attack
def test_apt_refuses_packages_that_were_changed(host: Host, built: str) -> None:
    """One that is not what was signed, and a list of them that is not."""
    package = host.check_output(f"ls {built}pool/xpra-codecs_*.deb")
    listed = f"{built}dists/{host.system_info.codename}/InRelease"
    install = "apt-get install -q -y --reinstall xpra-codecs"
    update = "apt-get update -q -o APT::Update::Error-Mode=any"
    host.check_output(f"cp {package} /opt/package && cp {listed} /opt/listed")
    try:
        host.check_output(f"rm -f /var/cache/apt/archives/xpra-* && printf x >>{package}")
        refused = host.run(install)
        assert refused.rc != 0
        assert "size" in refused.stderr.lower() or "hash" in refused.stderr.lower(), refused.stderr
        host.check_output(f"cp /opt/package {package} && sed -i 's/^Origin: .*/Origin: Somebody/' {listed}")
        refused = host.run(update)
        assert refused.rc != 0
        assert "signature" in refused.stderr.lower(), refused.stderr
    finally:
        host.check_output(f"cp /opt/package {package} && cp /opt/listed {listed} && {update} && {install}")


def test_building_left_nothing_but_the_packages(host: Host, built: str) -> None:
    """No compiler, no headers, no secret key, no user and nothing of theirs."""
    assert built
    installed = host.check_output("dpkg-query --show --showformat '${db:Status-Status} ${Package}\\n'").splitlines()
    packages = {line.split()[1] for line in installed if line.startswith("installed ")}
    assert not {"gcc", "g++", "dpkg-dev", "python3-dev", "libx11-dev", "cython3", "gpg-agent"} & packages
    names = ("private-keys-v1.d", ".gnupg", "campushub-xpra-build", "xpra-build*")
    left = " -o ".join(f"-name {shlex.quote(name)}" for name in names)
    assert host.run(f"find / -xdev {left}").stdout == ""
    assert host.run("find /tmp /var/tmp /run -maxdepth 1 -iname '*xpra*'").stdout == ""
    assert host.run("getent passwd campushub-xpra-build").rc != 0
    assert host.run("systemctl list-units --all --no-legend 'campushub-*xpra*' 'campushub-displays*'").stdout == ""


@pytest.mark.attack
def test_users_change_nothing_of_the_packages(host: Host, built: str) -> None:
    """All of it is root's, where they are kept and where they are installed."""
    places = f"{REPOSITORIES} /usr/lib/python3/dist-packages/xpra /etc/apt/keyrings /etc/xpra"
    assert host.run(rf"find {places} -not -type l \( -not -user root -o -perm /022 \)").stdout == ""
    for place in (built, f"{built}pool", "/var/lib/campushub"):
        assert host.run(f"runuser -u bob -- touch {place}/mine").rc != 0


@pytest.mark.attack
def test_what_builds_can_do_nothing_else(host: Host, built: str) -> None:
    """It is a user who exists meanwhile; and when it fails, what was installed for it goes all the same."""
    recipe = "/opt/probe"
    host.check_output(f"mkdir {recipe}")
    dependencies = "xvfb\nhello\n"
    texts = {
        "build-repository": REPOSITORY.read_text(),
        "build-packages": PROBE,
        "build-dependencies.txt": dependencies,
    }
    for name, text in texts.items():
        host.check_output(f"printf %s {shlex.quote(text)} >{recipe}/{name} && chmod 0755 {recipe}/{name}")
    host.check_output("runuser -u bob -- touch /tmp/of-bob")
    done = host.run(f"{recipe}/build-repository 1 {host.system_info.codename} /opt/probe.tar")
    host.check_output(f"rm -rf {recipe} /tmp/of-bob")
    assert done.rc == 7, done.stderr
    can = ("user ", "reads ", "sees ", "writes", "has a network", "becomes ")
    said = [line for line in done.stdout.splitlines() if line.startswith(can)]
    # One of those that systemd gives to units for as long as they run.
    assert len(said) == 1, said
    assert 61184 <= int(said[0].split()[1]) < 65520
    assert "hello" in done.stdout
    assert not host.package("hello").is_installed
    assert host.package("xvfb").is_installed
    assert not host.file("/opt/probe.tar").exists
    assert not host.file("/var/lib/campushub/xpra-build.packages").exists
    test_building_left_nothing_but_the_packages(host, built)


@pytest.mark.chaos
@pytest.mark.one_host
def test_where_xpra_fails_tigervnc_takes_its_place(host: Host, apply_role: ApplyRole) -> None:
    """It is said, a second run changes nothing, and a version that works is used again."""
    before = host.file(SETTINGS).content_string
    host.check_output(f"mv /usr/bin/xpra /usr/bin/xpra.away && rm {FOUND}")
    try:
        done = apply_role()
        assert done.returncode == 0, done.stdout[-3000:]
        assert "does not work on this host" in done.stdout
        assert "TigerVNC makes the displays" in done.stdout
        assert engine(host) == "tigervnc"
        assert "changed=0" in apply_role().stdout
        # Who chooses TigerVNC for good hears no more of it.
        assert apply_role(displays_engine="tigervnc").returncode == 0
        assert not host.file(FOUND).exists
        assert not host.file("/var/lib/campushub/xpra-failed").exists
        assert "changed=0" in apply_role(displays_engine="tigervnc").stdout
    finally:
        host.check_output(f"mv /usr/bin/xpra.away /usr/bin/xpra; rm -f {FOUND}")
    assert apply_role().returncode == 0
    assert host.file(SETTINGS).content_string == before
    assert "changed=0" in apply_role().stdout


def test_packages_of_the_distribution_are_too_old(host: Host, apply_role: ApplyRole) -> None:
    """Preflight and role say so, and say what to do."""
    done = apply_role(check=True, displays_xpra_source="distribution")
    assert done.returncode == 0, done.stdout[-3000:]
    words = " ".join((done.stdout + done.stderr).split())
    assert "displays need 6.5 or newer; TigerVNC makes the displays. Use build" in words
    refused = apply_role(displays_xpra_source="distribution", displays_engine="xpra")
    assert refused.returncode != 0
    assert engine(host) == "xpra"
