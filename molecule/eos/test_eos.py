"""What role eos writes, read by those who are to read it, a stand-in for the client among them, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from tests.site.centre import wait_until

ApplyRole = Callable[..., subprocess.CompletedProcess[str]]
HOME_A = {
    "name": "home-a",
    "hostport": "eoshome-a.campus.test:1094",
    "remote_directory": "/eos/user/a/",
    "local_directory": "/eos/home-a",
    "auth": "unix",
}


@pytest.fixture
def autofs(named: Callable[[str], Host]) -> Host:
    """The host that mounts with autofs."""
    return named("eos-debian12")


@pytest.fixture
def systemd(named: Callable[[str], Host]) -> Host:
    """The host that mounts with systemd."""
    return named("eos-debian13")


def test_instances_are_json_that_root_alone_reads(host: Host) -> None:
    found = {}
    for name in ("home-a", "shared"):
        file = host.file(f"/etc/eos/fuse.{name}.conf")
        assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
        found[name] = json.loads(file.content_string)
    assert found["home-a"]["hostport"] == "eoshome-a.campus.test:1094"
    assert found["home-a"]["options"] == {"backtrace": 0, "md-backend.timeout": 60, "md-kernelcache": 1}
    assert found["home-a"]["cache"]["size-mb"] == 500
    assert (found["home-a"]["auth"]["krb5"], found["home-a"]["auth"]["sss"]) == (1, 0)
    assert (found["shared"]["auth"]["krb5"], found["shared"]["auth"]["sss"]) == (0, 1)
    keytab = host.file(found["shared"]["auth"]["ssskeytab"])
    assert (keytab.user, keytab.group, keytab.mode) == ("root", "root", 0o600)
    assert keytab.content_string.startswith("0 u:anybody g:anygroup n:test ")


def test_letters_lead_to_instances(host: Host) -> None:
    assert host.check_output("readlink /eos/user/a") == "/eos/home-a"


def test_autofs_has_the_map(autofs: Host) -> None:
    assert autofs.service("autofs").is_running
    said = autofs.check_output("automount -m")
    for line in (
        "/eos/home-a | -fstype=eosx,fsname=home-a :eosxd",
        "/eos/shared | -fstype=eosx,fsname=shared :eosxd",
        "/eos/bound | -fstype=bind :/eos/shared",
    ):
        assert line in said, said
    assert "/eos/home-a autofs" in autofs.check_output("cat /proc/mounts")


def test_systemd_has_the_units(systemd: Host) -> None:
    for place in ("/eos/home-a", "/eos/shared", "/eos/bound"):
        unit = systemd.check_output(f"systemd-escape --path --suffix=automount {place}").replace("\\", "\\\\")
        assert systemd.check_output(f"systemctl is-active {unit}; systemctl is-enabled {unit}").split() == [
            "active",
            "enabled",
        ]
    shown = systemd.check_output(r"systemctl show --property=What,Where,Type,Options 'eos-home\x2da.mount'")
    assert set(shown.splitlines()) >= {"Where=/eos/home-a", "What=eosxd", "Type=eosx"}
    assert "fsname=home-a" in shown


def mounted(host: Host) -> bool:
    """Look into the instance as an ordinary user, which mounts it."""
    looked = host.run("timeout 20 sudo -u nobody ls /eos/home-a")
    return looked.rc == 0 and " /eos/home-a fuse " in str(host.file("/proc/mounts").content_string)


def client(host: Host) -> str:
    """The numbers of the client's processes."""
    return " ".join(host.check_output("pgrep -f '[e]osxd /eos/home-a '").split())


@contextlib.contextmanager
def visitor(host: Host, place: str = "/eos/home-a") -> Iterator[None]:
    """Somebody works in the instance; a unit that is told so would end with the mount."""
    stays = f"sh -c 'cd {place} && exec sleep 600'"
    host.check_output(f"systemd-run --quiet --collect --unit=visitor --uid=nobody {stays}; sleep 1")
    try:
        yield
        assert host.run("systemctl is-active --quiet visitor").rc == 0, "whoever uses it does not go on"
    finally:
        host.run("systemctl kill --signal=KILL visitor; sleep 0.3")


def test_whoever_looks_mounts_an_instance(host: Host) -> None:
    assert mounted(host)
    assert "nosuid,nodev" in host.check_output("grep ' /eos/home-a fuse ' /proc/mounts")


@pytest.mark.chaos
def test_an_instance_that_cannot_be_mounted_holds_up_nobody(host: Host) -> None:
    host.check_output("umount --lazy /eos/home-a; mv /usr/local/bin/eosxd /usr/local/bin/eosxd.away")
    try:
        begin = time.monotonic()
        assert host.run("timeout 40 ls /eos/home-a/").rc not in (0, 124)
        assert time.monotonic() - begin < 35
    finally:
        host.check_output("mv /usr/local/bin/eosxd.away /usr/local/bin/eosxd; systemctl reset-failed")
    if host.run("systemctl is-active --quiet autofs.service").rc == 0:
        # It remembers for a minute what it looked for in vain.
        host.check_output("systemctl restart autofs.service")
    wait_until(lambda: mounted(host), "it is mounted", seconds=20)


@pytest.fixture
def watched(host: Host) -> Iterator[Callable[[], str]]:
    """Have the watch look only when it is told to; return how to tell it, which returns the metrics."""
    host.check_output("systemctl stop campushub-watch-eos.timer")

    def look() -> str:
        host.check_output("systemctl start campushub-watch-eos.service")
        return str(host.file("/var/lib/prometheus/node-exporter/campushub_eos.prom").content_string)

    yield look
    host.check_output("systemctl start campushub-watch-eos.timer")


@pytest.mark.chaos
def test_an_instance_whose_manager_is_silent_is_told(host: Host, watched: Callable[[], str]) -> None:
    """The client answers statfs all the while."""
    assert mounted(host)
    with visitor(host):
        assert 'campushub_mount_up{mount="/eos/home-a"} 1' in watched()
        host.check_output("touch /run/manager-is-silent; sleep 0.3")
        try:
            assert "Permission denied" in host.run("timeout 5 stat --file-system /eos/home-a").stderr
            assert 'campushub_mount_up{mount="/eos/home-a"} 0' in watched()
            journal = host.check_output("journalctl -u campushub-watch-eos --since=-60s -o cat --no-pager")
            assert "/eos/home-a (fuse): it does not answer; " in journal
        finally:
            host.check_output("rm -f /run/manager-is-silent")
    wait_until(lambda: 'campushub_mount_up{mount="/eos/home-a"} 1' in watched(), "it is well again", seconds=20)


def test_autofs_expires_a_watched_mount(host: Host, apply_role: ApplyRole, watched: Callable[[], str]) -> None:
    """A probe would keep it in use."""
    if not host.file("/etc/auto.campushub-eos").exists:
        pytest.skip("units of systemd have no time after which they unmount")
    host.check_output("sed -i s/--timeout=600/--timeout=6/ /etc/auto.master.d/campushub-eos.autofs")
    host.check_output("systemctl restart autofs.service")
    assert mounted(host)

    def expired() -> bool:
        watched()
        return " /eos/home-a fuse " not in str(host.file("/proc/mounts").content_string)

    wait_until(expired, "autofs unmounts it", seconds=40)
    assert apply_role().returncode == 0


# What ends the client, and how often it is tried; with the handler of crashes it takes its trigger with it.
ENDS = [(0, "KILL", 2), (0, "SEGV", 2), (0, "TERM", 1), (1, "SEGV", 3), (1, "TERM", 2)]


@pytest.mark.chaos
@pytest.mark.slow
def test_a_dead_instance_comes_back_ten_of_ten(host: Host, apply_role: ApplyRole, watched: Callable[[], str]) -> None:
    for backtrace, number, times in ENDS:
        wait_until(lambda: mounted(host), "it is mounted", seconds=20)
        host.check_output(f"""sed -i 's/"backtrace": ./"backtrace": {backtrace}/' /etc/eos/fuse.home-a.conf""")
        host.check_output("umount --lazy /eos/home-a")
        for _ in range(times):
            wait_until(lambda: mounted(host), "it is mounted", seconds=20)
            host.check_output(f"kill -{number} {client(host)}; sleep 0.5")
            assert mounted(host) == (number == "TERM" and not backtrace), f"{number} with backtrace {backtrace}"
            watched()
            wait_until(lambda: mounted(host), f"it is back after {number} with backtrace {backtrace}", seconds=10)
            # The service manager has a limit of starts.
            time.sleep(2)
    assert apply_role().returncode == 0


@pytest.mark.chaos
def test_a_dead_instance_comes_back_without_anybody(host: Host) -> None:
    """The timer of the watch runs once a minute; users see it at their next look."""
    # The timer's next look is a minute after this one.
    host.check_output("systemctl start campushub-watch-eos.service")
    assert mounted(host)
    host.check_output(f"kill -KILL {client(host)}; sleep 0.2")
    assert not mounted(host)
    wait_until(lambda: mounted(host), "the timer has repaired it", seconds=90)


@pytest.mark.chaos
@pytest.mark.parametrize("is_used", [False, True])
def test_each_change_of_the_method_finishes(host: Host, apply_role: ApplyRole, is_used: bool) -> None:
    methods = ["autofs", "systemd"]
    if host.run("systemctl is-active --quiet autofs.service").rc == 0 and host.file("/etc/auto.campushub-eos").exists:
        methods.reverse()
    for method in methods:
        assert mounted(host)
        with visitor(host) if is_used else contextlib.nullcontext():
            done = apply_role(eos_mount_method=method)
            assert done.returncode == 0, done.stdout + done.stderr
        assert mounted(host)
        holder = host.check_output("grep ' /eos/home-a autofs ' /proc/mounts | cut -d ' ' -f 1")
        assert holder == {"autofs": "/etc/auto.campushub-eos", "systemd": "systemd-1"}[method]
        again = apply_role(eos_mount_method=method)
        assert "changed=0" in again.stdout, again.stdout


@pytest.mark.chaos
def test_a_place_that_moves_while_it_is_used(host: Host, apply_role: ApplyRole) -> None:
    moved = [{**HOME_A, "local_directory": "/eos/moved"}]
    assert mounted(host)
    try:
        with visitor(host):
            done = apply_role(eos_instances=moved, eos_links=[])
            assert done.returncode == 0, done.stdout + done.stderr
            assert " /eos/home-a " not in host.check_output("cat /proc/mounts")
            assert host.run("timeout 20 ls /eos/moved").rc == 0
    finally:
        assert apply_role().returncode == 0
    assert mounted(host)


@pytest.mark.chaos
def test_a_further_way_changes_its_method_while_used(host: Host, apply_role: ApplyRole) -> None:
    def ways(method: str) -> list[dict[str, str]]:
        letter = {"path": "/eos/user/a", "target": "/eos/home-a"}
        return [letter, {"path": "/eos/bound", "target": "/eos/shared", "method": method}]

    def shown() -> str:
        assert host.run("timeout 20 sudo -u nobody ls /eos/bound").rc == 0
        mounts = str(host.file("/proc/mounts").content_string)
        return "bind" if " /eos/bound fuse " in mounts else host.run("readlink /eos/bound").stdout.strip()

    assert shown() == "bind"
    with visitor(host, "/eos/bound"):
        for method, seen in (("link", "/eos/shared"), ("bind", "bind")):
            done = apply_role(eos_links=ways(method))
            assert done.returncode == 0, done.stdout + done.stderr
            assert shown() == seen
            again = apply_role(eos_links=ways(method))
            assert "changed=0" in again.stdout, again.stdout


def test_on_debian_the_role_says_that_there_are_no_packages(host: Host, apply_role: ApplyRole) -> None:
    before = host.check_output("ls /etc/apt/sources.list.d /etc/eos; dpkg -l | sha256sum")
    done = apply_role(eos_install=True, eos_key_fingerprint="0" * 40)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert (
        "has no packages of the client of EOS: CERN makes them for EL 8, 9 and 10 and for Ubuntu 22.04, 24.04 and 26.04"
        in said
    )
    assert "Name a repository that has eos-fusex for it in eos_apt_url" in said
    assert host.check_output("ls /etc/apt/sources.list.d /etc/eos; dpkg -l | sha256sum") == before


# XRootD is what EOS is built upon: its server takes the same keytabs, and its FUSE client speaks for users by them.
XROOTD = """
all.export /data
oss.localroot /srv/xrootd
xrootd.seclib libXrdSec.so
sec.protocol sss -s /etc/xrootd/server.keytab
sec.protbind * only sss
ofs.authorize 1
acc.authdb /etc/xrootd/authdb
"""
SET_UP = f"""
for user in alice bob; do
  id $user >/dev/null 2>&1 || useradd --create-home $user
  mkdir -p /srv/xrootd/data/$user
done
echo "alice's" >/srv/xrootd/data/alice/file
cp /etc/eos/campushub.shared.keytab /etc/xrootd/server.keytab
cat >/etc/xrootd/xrootd-campus.cfg <<'END'
{XROOTD}
END
printf '%s\\n' 'u alice /data/alice a' 'u bob /data/bob a' 'u * /data l' >/etc/xrootd/authdb
chown -R xrootd: /srv/xrootd /etc/xrootd
systemctl restart xrootd@campus
mkdir -p /mnt/xrootd
"""
# It keeps the output of the one who started it.
MOUNT = "xrootdfs -o rdr=root://localhost:1094//data,sss={keytab},allow_other /mnt/xrootd >/dev/null 2>&1 </dev/null"


def test_a_server_of_xrootd_takes_the_keytab(autofs: Host) -> None:
    """It is XRootD, not EOS, that is asked here; see the test of the real client."""
    host = autofs
    host.check_output(SET_UP)
    try:
        wait_until(lambda: host.socket("tcp://1094").is_listening, "the server of XRootD", seconds=15)
        host.check_output(MOUNT.format(keytab="/etc/eos/campushub.shared.keytab"))
        wait_until(lambda: host.run("sudo -u alice ls /mnt/xrootd/alice").rc == 0, "the mount", seconds=15)
        assert host.check_output("sudo -u alice cat /mnt/xrootd/alice/file") == "alice's"
        assert host.run("sudo -u alice sh -c 'echo more >/mnt/xrootd/alice/another'").rc == 0
        assert host.check_output("cat /srv/xrootd/data/alice/another") == "more"
        for command in ("cat /mnt/xrootd/alice/file", "sh -c 'echo bad >/mnt/xrootd/alice/file'"):
            assert "ermission denied" in host.run(f"sudo -u bob {command}").stderr
        assert host.run("sudo -u bob cat /etc/eos/campushub.shared.keytab").rc != 0
        # It is the key that vouches for them: a server that has another one believes nothing.
        host.check_output("sed -i s/0123456789abcdef/fedcba9876543210/ /etc/xrootd/server.keytab")
        host.check_output("umount --lazy /mnt/xrootd; systemctl restart xrootd@campus")
        wait_until(lambda: host.socket("tcp://1094").is_listening, "the server of XRootD", seconds=15)
        host.check_output(MOUNT.format(keytab="/etc/eos/campushub.shared.keytab"))
        assert host.run("sudo -u alice cat /mnt/xrootd/alice/file").rc != 0
        assert "Unable to decrypt credentials" in host.check_output("tail -3 /var/log/xrootd/campus/xrootd.log")
    finally:
        host.run("umount --lazy /mnt/xrootd; systemctl stop xrootd@campus")


@pytest.mark.attack
def test_a_keytab_is_in_no_output(host: Host, apply_role: ApplyRole) -> None:
    host.check_output("rm /etc/eos/campushub.shared.keytab")
    done = apply_role()
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.file("/etc/eos/campushub.shared.keytab").exists
    assert "anybody" not in done.stdout + done.stderr


def test_what_is_not_wanted_any_more_goes(host: Host, apply_role: ApplyRole) -> None:
    try:
        done = apply_role(eos_instances=[HOME_A], eos_links=[{"path": "/eos/user/b", "target": "/eos/home-a"}])
        assert done.returncode == 0, done.stdout + done.stderr
        assert host.check_output("ls /etc/eos").split() == ["campushub.links", "fuse.home-a.conf"]
        assert host.check_output("ls /eos/user") == "b"
        mounts = host.check_output("cat /proc/mounts")
        assert "/eos/home-a autofs" in mounts
        assert "/eos/shared" not in mounts
        # The client would merge it over the settings of that name; it is the site's.
        host.check_output("echo '{}' >/etc/eos/fuse.home-a.local.conf")
        # Whatever the inventory still says.
        done = apply_role(eos_state="absent", eos_instances=[], eos_links=[])
        assert done.returncode == 0, done.stdout + done.stderr
        assert "/etc/eos/fuse.home-a.local.conf is not of this role and stays" in done.stdout
        host.check_output("rm /etc/eos/fuse.home-a.local.conf")
        assert host.check_output("ls /eos/user") == ""
        assert "/eos/" not in host.check_output("cat /proc/mounts")
        assert host.run("ls /etc/eos/* /etc/auto.campushub-eos /etc/systemd/system/eos-*").stdout.strip() == ""
        places = "/etc/systemd/system /etc/systemd/system/timers.target.wants /usr/local/lib /var/lib/prometheus"
        assert (
            host.check_output(f"find {places} -name '*watch-eos*' -o -name '*watch_eos*' -o -name '*_eos.prom'") == ""
        )
        assert host.run("systemctl is-active campushub-watch-eos.timer").stdout.strip() == "inactive"
    finally:
        assert apply_role().returncode == 0
    assert "/eos/home-a autofs" in host.check_output("cat /proc/mounts"), "autofs ends when it has nothing to mount"


def test_the_real_client_is_installed(host: Host, apply_role: ApplyRole) -> None:
    """Named by EOS_APT_URL, with EOS_APT_SUITE, EOS_APT_COMPONENTS, EOS_KEY_URL and EOS_KEY_FINGERPRINT."""
    if not os.environ.get("EOS_APT_URL"):
        pytest.skip(
            "CERN's client of EOS cannot be had here: EOS_APT_URL names no repository with packages for this host"
        )
    names = ("APT_URL", "APT_SUITE", "KEY_URL", "KEY_FINGERPRINT")
    given = {f"eos_{name.lower()}": os.environ[f"EOS_{name}"] for name in names if f"EOS_{name}" in os.environ}
    components = os.environ.get("EOS_APT_COMPONENTS", "main").split()
    done = apply_role(eos_install=True, eos_apt_components=components, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.exists("eosxd")
    apply_role()
