"""What the role writes as the tools read it, kernels in a tree like a view, and with its packages the client itself."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from testinfra.host import Host

from tests.exposure import exposure

ApplyRole = Callable[..., CompletedProcess[str]]

REPOSITORY = os.environ.get("CVMFS_REPOSITORY") or "cvmfs-config.cern.ch"
PROXY = os.environ.get("CVMFS_PROXY", "")
MOUNT = f"/cvmfs/{REPOSITORY}"
with_packages = pytest.mark.skipif(
    not os.environ.get("CVMFS_APT_URL"),
    reason="CVMFS_APT_URL names no repository with packages of CVMFS, which the distributions do not have",
)
with_script = pytest.mark.skipif(
    not os.environ.get("CVMFS_SETUP_SCRIPT"), reason="CVMFS_SETUP_SCRIPT names no environment in a repository"
)
HOSTILE = 'its "$HOME" `id`; $(touch /tmp/executed) \\ | & #x'
OTHER_KEY = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo
4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0/IzW7yWR7QkrmBL7jTKEn5u
+qKhbwKfBstIs+bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyeh
kd3qqGElvW/VDL5AaWTg0nLVkjRo9z+40RQzuVaE8AkAFmxZzow3x+VJYKdjykkJ
0iT9wCS0DRTXu269V264Vf/3jvredZiKRkgwlL9xNAwxXFg0x/XFw005UWVRIkdg
cKWTjpBP2dPwVZ4WWC+9aGVd+Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbjXfbc
mwIDAQAB
-----END PUBLIC KEY-----
"""


def sourced(host: Host, path: str, name: str) -> str:
    """What sh makes of a parameter."""
    return str(host.check_output('sh -euc \'. "$1"; eval "printf %%s \\"\\$$2\\""\' sh %s %s', path, name))


def test_parameters_are_what_a_shell_reads(host: Host) -> None:
    path = "/etc/cvmfs/default.local"
    assert sourced(host, path, "CVMFS_HOSTILE") == HOSTILE
    assert sourced(host, path, "CVMFS_QUOTA_LIMIT") == "1000"
    assert sourced(host, path, "CVMFS_HTTP_PROXY") == (PROXY or "DIRECT")
    assert REPOSITORY in sourced(host, path, "CVMFS_REPOSITORIES").split(",")
    assert not host.file("/tmp/executed").exists


def test_files_can_be_open_as_many_as_a_service_may(host: Host) -> None:
    # The service tries, as the client does when it starts.
    wanted = sourced(host, "/etc/cvmfs/default.local", "CVMFS_NFILES")
    asked = host.run("systemd-run --quiet --wait --collect sh -c %s", f"ulimit -Sn {wanted}")
    assert asked.rc == 0
    assert 1024 <= int(wanted) <= 131072


@pytest.mark.attack
def test_the_watch_reaches_little_else_of_the_host(host: Host) -> None:
    assert exposure(host, "campushub-watch-cvmfs.service") <= 4.0


@pytest.mark.chaos
def test_autofs_that_is_killed_comes_back(host: Host) -> None:
    before = host.check_output("systemctl show --value --property MainPID autofs.service")
    host.check_output(f"kill -KILL {before}")
    end = time.monotonic() + 20
    while host.run("systemctl is-active autofs.service && automount --dumpmaps").rc != 0:
        assert time.monotonic() < end
        time.sleep(0.5)
    assert host.check_output("systemctl show --value --property MainPID autofs.service") != before


def test_autofs_reads_the_map(host: Host) -> None:
    shown = host.run("automount --dumpmaps")
    assert shown.rc == 0, shown.stderr
    assert "Mount point: /cvmfs" in shown.stdout


def test_units_of_systemd_take_the_place_of_autofs(host: Host, apply_role: ApplyRole) -> None:
    if os.environ.get("CVMFS_APT_URL"):
        pytest.skip("with the client the units are started by a test of their own")
    run = apply_role(cvmfs_mount_method="systemd")
    assert run.returncode == 0, run.stdout
    try:
        names = [name for name in host.file("/etc/systemd/system").listdir() if name.startswith("cvmfs-")]
        assert f"cvmfs-{REPOSITORY.replace('-', chr(92) + 'x2d')}.mount" in names
        verified = host.run("cd /etc/systemd/system && systemd-analyze verify cvmfs-*.automount")
        assert verified.rc == 0, verified.stderr
        assert not host.file("/etc/auto.master.d/cvmfs.autofs").exists
        again = apply_role(cvmfs_mount_method="systemd")
        assert "changed=0" in again.stdout
    finally:
        assert apply_role().returncode == 0
    assert [name for name in host.file("/etc/systemd/system").listdir() if name.startswith("cvmfs-")] == []


def test_a_repository_of_the_sites_own_comes_and_goes(host: Host, apply_role: ApplyRole) -> None:
    own = {
        "name": "software.example.org",
        "server_urls": ["http://stratum1.example.org/cvmfs/@fqrn@", "http://stratum2.example.org/cvmfs/@fqrn@"],
        "public_keys": [OTHER_KEY],
        "options": {"CVMFS_HTTP_PROXY": "DIRECT"},
    }
    settings = "/etc/cvmfs/config.d/software.example.org.local"
    assert apply_role(cvmfs_own_repositories=[own], cvmfs_check=False).returncode == 0
    servers = "http://stratum1.example.org/cvmfs/@fqrn@;http://stratum2.example.org/cvmfs/@fqrn@"
    assert sourced(host, settings, "CVMFS_SERVER_URL") == servers
    key = f"{sourced(host, settings, 'CVMFS_KEYS_DIR')}/1.pub"
    assert host.run("openssl pkey -pubin -noout -in %s", key).rc == 0
    assert apply_role().returncode == 0
    assert not host.file(settings).exists
    assert not host.file(key).exists


def test_removal_leaves_nothing_of_ours(host: Host, apply_role: ApplyRole) -> None:
    assert apply_role(cvmfs_state="absent").returncode == 0
    try:
        places = "/etc/cvmfs /etc/auto.master.d /etc/systemd/system/cvmfs-* /etc/systemd/system/*watch-cvmfs*"
        left = host.run(f"grep -rl 'Managed by CampusHub' {places}")
        assert left.stdout == ""
        assert host.run("findmnt --noheadings --types autofs /cvmfs").stdout == ""
        assert "changed=0" in apply_role(cvmfs_state="absent").stdout
    finally:
        assert apply_role().returncode == 0


# --- Kernels, in a tree on an ordinary path that is laid out like a view ----------------------------------------------


@pytest.fixture(scope="module")
def view(host: Host) -> Iterator[str]:
    """An environment with a Python of its own, and a script that enters it."""
    script = 'export VIEW=/srv/view PYTHONPATH=/srv/view/lib GIVEN="$#"\nPATH=/srv/view/bin:$PATH\nexport PATH\n'
    python = '#!/bin/sh\nexec /opt/campushub/user/bin/python "$@"\n'
    host.run_expect([0], "mkdir -p /srv/view/bin /srv/view/lib")
    host.run_expect([0], "printf %%s %s > /srv/view/bin/python3; chmod 0755 /srv/view/bin/python3", python)
    host.run_expect([0], "printf %%s %s > /srv/view/setup.sh", script)
    host.run_expect([0], "printf %%s %s > /srv/run_cell.py", (Path(__file__).parent / "run_cell.py").read_text())
    yield "/srv/view"
    host.run("rm -rf /srv/view /srv/run_cell.py")


def as_alice(host: Host, command: str, *arguments: str) -> Any:
    """Run a command as an ordinary user, from a Python that leaks."""
    leak = "PYTHONPATH=/leak VIRTUAL_ENV=/leak LD_LIBRARY_PATH="
    return host.run(f"cd /tmp && sudo -u alice env HOME=/home/alice {leak} {command}", *arguments)


def run_cell(host: Host, kernel: str, code: str) -> dict[str, Any]:
    run = as_alice(host, "/opt/campushub/user/bin/python -I /srv/run_cell.py %s %s", kernel, code)
    assert run.rc == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def test_a_kernel_starts_in_its_environment(host: Host, view: str) -> None:
    names = ("VIEW", "PYTHONPATH", "VIRTUAL_ENV", "GIVEN")
    code = f"import json, os; print(json.dumps([os.environ.get(name) for name in {names}]))"
    texts = [content["text"] for content in run_cell(host, "view", code)["said"] if content["text"]]
    assert [json.loads(text) for text in texts] == [[view, f"{view}/lib", None, "0"]]


def test_a_kernel_of_an_environment_listens_on_no_port(host: Host, view: str) -> None:
    del view
    # One socket that the cell opens itself shows that they are seen.
    code = (
        "import os, socket, subprocess; own = socket.create_server(('127.0.0.1', 0)); "
        "said = subprocess.run(['ss', '-Hlntup'], capture_output=True, text=True).stdout; "
        "print([line.split()[4] for line in said.splitlines() if f'pid={os.getpid()},' in line], own.getsockname())"
    )
    (said,) = [content["text"] for content in run_cell(host, "view", code)["said"] if content["text"]]
    assert re.fullmatch(r"\['127\.0\.0\.1:(\d+)'\] \('127\.0\.0\.1', \1\)\n", said), said


@pytest.mark.chaos
def test_a_kernel_of_a_repository_that_is_not_there_says_so(host: Host, view: str) -> None:
    del view
    answer = run_cell(host, "absent", "print(1)")
    errors = [content["evalue"] for content in answer["said"] if content["ename"]]
    assert len(errors) == 1
    assert "absent.example.org" in errors[0]
    assert answer["seconds"] < 30


def test_a_list_of_kernels_touches_no_repository(host: Host) -> None:
    listing = "/opt/campushub/user/bin/jupyter kernelspec list --json"
    traced = as_alice(host, f"strace -f -qq -e trace=%file -o /tmp/listing.trace {listing}")
    assert traced.rc == 0, traced.stderr
    specs = json.loads(traced.stdout)["kernelspecs"]
    assert {"view", "absent", "real"} <= set(specs)
    assert specs["view"]["spec"]["display_name"] == "A tree like a view"
    trace = host.file("/tmp/listing.trace").content_string
    host.run("rm -f /tmp/listing.trace")
    assert "/usr/local/share/jupyter/kernels/view/kernel.json" in trace
    assert '"/cvmfs' not in trace
    assert "/srv/view" not in trace


def test_every_kernel_has_a_logo(host: Host) -> None:
    for name in ("view", "absent", "real"):
        logo = host.file(f"/usr/local/share/jupyter/kernels/{name}/logo-svg.svg")
        assert "<svg" in logo.content_string


def test_a_terminal_finds_the_same_environments(host: Host, view: str) -> None:
    listed = as_alice(host, "campushub-env")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["view", "absent", "real"]
    entered = as_alice(host, "campushub-env view sh -c 'echo $VIEW $PYTHONPATH'")
    assert entered.stdout == f"{view} {view}/lib\n"
    assert as_alice(host, "campushub-env absent true").rc == 1


def test_environments_are_kept_warm_by_a_timer(host: Host, view: str) -> None:
    timer = "campushub-warm-up.timer"
    assert host.check_output("systemctl is-enabled %s", timer) == "enabled"
    assert "05:30:00" in host.check_output("systemctl show --value --property=TimersCalendar %s", timer)
    assert host.run("systemctl start campushub-warm-up.service").rc == 0
    # The words of the command arrive as they were written.
    journal = host.check_output("journalctl --output=cat --unit=campushub-warm-up.service")
    assert f"warm: {view} 100% $VIEW" in journal.splitlines()


@pytest.mark.slow
def test_environments_that_are_no_longer_wanted_leave_nothing(host: Host, apply_role: ApplyRole) -> None:
    run = apply_role(role="jupyter", jupyter_cvmfs_kernels=[])
    assert run.returncode == 0, run.stdout
    try:
        kernels = host.file("/usr/local/share/jupyter/kernels")
        assert not kernels.exists or kernels.listdir() == []
        assert not host.file("/usr/local/bin/campushub-env").exists
        assert host.run("systemctl is-active --quiet campushub-warm-up.timer").rc != 0
    finally:
        assert apply_role(role="jupyter").returncode == 0
    assert host.run("systemctl is-active --quiet campushub-warm-up.timer").rc == 0
    assert "changed=0" in apply_role(role="jupyter").stdout


# --- The watch, over mounts of a stand-in for the client --------------------------------------------------------------


STAND_IN = "stand-in.example.org"
PLACES = {"/etc/auto.cvmfs": "auto.cvmfs", "/usr/sbin/mount.cvmfs": "mount.cvmfs", "/usr/local/bin/cvmfs2": None}


@pytest.fixture(scope="module")
def stand_in(host: Host) -> Iterator[str]:
    """A repository that a stand-in for the client mounts as autofs asks it to; the watch looks when it is told to."""
    if os.environ.get("CVMFS_APT_URL"):
        pytest.skip("with the real client nothing stands in for it")
    here = Path(__file__).resolve().parent
    for place, name in PLACES.items():
        file = here / "stand_in" / name if name else here.parents[1] / "tests" / "hanging_files.py"
        text = file.read_text().replace("#!/usr/bin/env python3", "#!/usr/bin/python3")
        host.run_expect([0], f"printf %%s %s >{place}; chmod 755 {place}", text)
    host.check_output("systemctl restart autofs.service; systemctl stop campushub-watch-cvmfs.timer")
    yield f"/cvmfs/{STAND_IN}"
    host.check_output("systemctl start campushub-watch-cvmfs.timer")
    # autofs would wait for what is mounted there, and leave a dead trigger behind.
    host.run(f"grep -q ' /cvmfs/{STAND_IN} fuse ' /proc/mounts && umount --lazy /cvmfs/{STAND_IN}")
    host.run(
        f"kill $(pgrep -f '[c]vmfs2 /cvmfs/{STAND_IN}'); rm -f {' '.join(PLACES)}; systemctl restart autofs.service"
    )


def is_mounted(host: Host, place: str) -> bool:
    looked = host.run(f"timeout 20 sudo -u nobody ls {place}")
    return looked.rc == 0 and f" {place} fuse " in str(host.file("/proc/mounts").content_string)


@pytest.mark.chaos
@pytest.mark.slow
def test_a_dead_repository_comes_back_ten_of_ten(host: Host, stand_in: str) -> None:
    for _ in range(10):
        assert is_mounted(host, stand_in)
        host.check_output(f"kill -KILL $(pgrep -f '[c]vmfs2 {stand_in}'); sleep 0.3")
        assert "Transport endpoint is not connected" in host.run(f"ls {stand_in}").stderr
        host.check_output("systemctl start campushub-watch-cvmfs.service")
        assert is_mounted(host, stand_in)
    journal = host.check_output("journalctl -u campushub-watch-cvmfs --since=-60s -o cat --no-pager")
    assert f"{stand_in}: given up, to be mounted again" in journal


@pytest.mark.chaos
def test_a_dead_repository_comes_back_without_anybody(host: Host, stand_in: str) -> None:
    """The timer of the watch runs once a minute; users see it at their next look."""
    # The timer's next look is a minute after this one.
    host.check_output("systemctl start campushub-watch-cvmfs.timer campushub-watch-cvmfs.service")
    assert is_mounted(host, stand_in)
    host.check_output(f"kill -KILL $(pgrep -f '[c]vmfs2 {stand_in}'); sleep 0.3")
    end = time.monotonic() + 90
    while not is_mounted(host, stand_in):
        assert time.monotonic() < end
        time.sleep(1)


@pytest.mark.chaos
def test_a_run_repairs_a_dead_repository(host: Host, stand_in: str, apply_role: ApplyRole) -> None:
    assert is_mounted(host, stand_in)
    host.check_output("systemctl stop campushub-watch-cvmfs.timer")
    host.check_output(f"kill -KILL $(pgrep -f '[c]vmfs2 {stand_in}'); sleep 0.3")
    assert apply_role().returncode == 0
    assert is_mounted(host, stand_in)


# A stand-in for the socket by which a client from 2.13.2 on tells its metrics.
TALK = """
import socket
with socket.create_server("/run/stand-in/cvmfs_io.stand-in.example.org", family=socket.AF_UNIX) as server:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b'# HELP cvmfs_net_proxy Proxies.\\n# TYPE cvmfs_net_proxy gauge\\n')
            connection.sendall(b'cvmfs_net_proxy{url="http://me:secret@squid:3128"} 1\\n')
"""


def test_metrics_of_a_client_are_with_those_of_the_watch(host: Host, stand_in: str) -> None:
    assert is_mounted(host, stand_in)
    socket = f"/run/stand-in/cvmfs_io.{STAND_IN}"
    host.check_output("systemd-run --quiet --collect --unit=talk python3 -c %s", TALK)
    try:
        host.check_output(f"for i in $(seq 50); do [ -S {socket} ] && break; sleep 0.1; done")
        host.check_output("systemctl start campushub-watch-cvmfs.service")
        found = host.file("/var/lib/prometheus/node-exporter/campushub_cvmfs.prom").content_string
        assert f'campushub_mount_up{{mount="{stand_in}"}} 1' in found
        assert 'cvmfs_net_proxy{url="http://squid:3128"} 1' in found
    finally:
        host.check_output(f"systemctl stop talk; rm -f {socket}")


def held_by_autofs(host: Host) -> bool:
    return "/etc/auto.cvmfs /cvmfs autofs" in str(host.file("/proc/mounts").content_string)


@pytest.mark.slow
@pytest.mark.chaos
def test_a_switch_that_was_cut_off_is_made_up_for(host: Host, stand_in: str, apply_role: ApplyRole) -> None:
    """The files are those of the new method, and the host still has the other, somebody in a repository included."""
    path = "/etc/auto.master.d/cvmfs.autofs"
    master = host.file(path).content_string
    try:
        assert apply_role(cvmfs_mount_method="systemd").returncode == 0
        assert not held_by_autofs(host)
        host.check_output(f"printf %%s %s >{path}; systemctl restart autofs.service", master)
        assert is_mounted(host, stand_in)
        host.check_output(f"systemd-run --quiet --unit=user-of-it --working-directory={stand_in} sleep 600; rm {path}")
        done = apply_role(cvmfs_mount_method="systemd")
        assert "changed=1" in done.stdout, done.stdout
        assert not held_by_autofs(host)
        assert "changed=0" in apply_role(cvmfs_mount_method="systemd").stdout
        # As lazily as an instance of EOS.
        assert host.run("systemctl is-active --quiet user-of-it").rc == 0
    finally:
        host.run("systemctl stop user-of-it")
        assert apply_role().returncode == 0
    # A host on which autofs has ended, as it does by itself when a reload leaves it without any map.
    host.check_output(f"mv {path} /run/away")
    host.run("for _ in $(seq 40); do systemctl reload autofs.service || break; sleep 0.5; done")
    host.check_output(f"mv /run/away {path}")
    assert not held_by_autofs(host)
    assert apply_role().returncode == 0
    assert is_mounted(host, stand_in)


# --- The client itself ------------------------------------------------------------------------------------------------


def own(host: Host, **others: Any) -> list[dict[str, Any]]:
    """The repository under test as one of the site's own: its real server and keys, but for what is given."""
    shown = host.check_output("cvmfs_config showconfig %s", REPOSITORY)
    values = {
        line.partition("=")[0]: line.partition("=")[2].split("    #")[0].strip("'") for line in shown.splitlines()
    }
    directory = values.get("CVMFS_KEYS_DIR", "")
    found = f"{directory}/*.pub" if directory else values["CVMFS_PUBLIC_KEY"].replace(":", " ")
    keys = [host.check_output("cat %s", path) for path in host.check_output(f"ls {found}").split()]
    server = values["CVMFS_SERVER_URL"].split(";")[0]
    return [{"name": REPOSITORY, "server_urls": [server], "public_keys": keys, **others}]


def read_as_alice(host: Host, seconds: int = 60) -> Any:
    """List the repository as an ordinary user. A hung one leaves the process behind and answers nothing."""
    look = f"(sudo -u alice ls {MOUNT} > /tmp/look 2>&1; echo done >> /tmp/look) > /dev/null 2>&1 & "
    wait = f"for i in $(seq {seconds}); do grep -qsx done /tmp/look && break; sleep 1; done"
    return host.run(f"rm -f /tmp/look; {look}{wait}; cat /tmp/look")


@with_packages
def test_an_ordinary_user_reads_the_repository(host: Host) -> None:
    assert host.run("umount %s; true", MOUNT).rc == 0
    shown = read_as_alice(host).stdout.splitlines()
    assert shown[-1] == "done"
    assert len(shown) > 1
    assert "fuse" in host.check_output("findmnt --noheadings --output FSTYPE %s", MOUNT)


@with_packages
def test_the_client_finds_no_fault_in_its_configuration(host: Host) -> None:
    checked = host.run("cvmfs_config chksetup")
    assert [line for line in checked.stdout.splitlines() if line.startswith(("Error", "Warning"))] == []
    shown = host.check_output("cvmfs_config showconfig %s", REPOSITORY).splitlines()
    assert any(line.startswith(f"CVMFS_HOSTILE='{HOSTILE}'") for line in shown), shown


@with_packages
def test_a_changed_setting_is_known_to_what_is_mounted(host: Host, apply_role: ApplyRole) -> None:
    read_as_alice(host)
    # Somebody uses it meanwhile, so it cannot be mounted again.
    host.run(f"systemd-run --unit=user-of-it --working-directory={MOUNT} sleep 600")
    try:
        run = apply_role(cvmfs_extra={"CVMFS_TIMEOUT": 17})
        assert run.returncode == 0, run.stdout
        assert "17" in host.check_output("cvmfs_talk -i %s parameters | grep '^CVMFS_TIMEOUT='", REPOSITORY)
        assert host.run("systemctl is-active --quiet user-of-it").rc == 0
        assert "changed=0" in apply_role(cvmfs_extra={"CVMFS_TIMEOUT": 17}).stdout
    finally:
        host.run("systemctl stop user-of-it")
        assert apply_role().returncode == 0


@pytest.mark.chaos
@with_packages
def test_a_wrong_key_is_found(host: Host, apply_role: ApplyRole) -> None:
    right = own(host)
    wrong = [{**right[0], "public_keys": [OTHER_KEY]}]
    try:
        run = apply_role(cvmfs_own_repositories=wrong, cvmfs_check_deadline=30)
        assert run.returncode != 0
        # Without anything in its cache the client does not mount it; else it does not look at the keys again.
        assert f"{REPOSITORY} cannot be trusted" in run.stdout or f"{REPOSITORY} cannot be read" in run.stdout
    finally:
        back = apply_role()
    assert back.returncode == 0, back.stdout


@pytest.mark.chaos
@with_packages
def test_a_dead_server_is_found_though_the_cache_is_warm(host: Host, apply_role: ApplyRole) -> None:
    read_as_alice(host)
    dead = own(host, server_urls=["http://127.0.0.1:9/cvmfs/@fqrn@"])
    try:
        run = apply_role(cvmfs_own_repositories=dead, cvmfs_check_deadline=30)
        assert run.returncode != 0
        assert REPOSITORY in run.stdout
    finally:
        back = apply_role()
    assert back.returncode == 0, back.stdout


@pytest.mark.chaos
@with_packages
def test_a_dead_proxy_is_found_though_the_cache_is_warm(host: Host, apply_role: ApplyRole) -> None:
    read_as_alice(host)
    try:
        run = apply_role(cvmfs_proxies=["http://127.0.0.1:9"], cvmfs_direct=False, cvmfs_check_deadline=30)
        assert run.returncode != 0
        assert f"{REPOSITORY} cannot be fetched through http://127.0.0.1:9" in run.stdout
    finally:
        back = apply_role()
    assert back.returncode == 0, back.stdout


@with_packages
def test_a_dead_proxy_is_a_warning_where_direct_is_allowed(host: Host, apply_role: ApplyRole) -> None:
    if PROXY:
        pytest.skip("CVMFS_PROXY says that the repository is not reached directly from here")
    try:
        run = apply_role(cvmfs_proxies=["http://127.0.0.1:9"], cvmfs_direct=True, cvmfs_check_deadline=60)
        assert run.returncode == 0, run.stdout
        assert f"{REPOSITORY} cannot be fetched through http://127.0.0.1:9" in run.stdout + run.stderr
    finally:
        assert apply_role().returncode == 0
    assert host.run("true").rc == 0


@pytest.mark.chaos
@with_packages
def test_a_hung_mount_hangs_nothing_else(host: Host, view: str, apply_role: ApplyRole) -> None:
    read_as_alice(host)
    processes = host.check_output("pgrep -f %s", f"cvmfs2.*{REPOSITORY}").split()
    host.run(f"kill -STOP {' '.join(processes)}")
    try:
        begin = time.monotonic()
        run = apply_role(cvmfs_check_deadline=10)
        assert run.returncode != 0
        assert f"{REPOSITORY} cannot be read: no answer in 10 s" in run.stdout
        assert time.monotonic() - begin < 120
        assert run_cell(host, "view", f"print('{view}')")["seconds"] < 30
        assert host.run("sudo -u alice true").rc == 0
        entered = as_alice(host, "campushub-env real true")
        assert entered.rc == 1
        assert REPOSITORY in entered.stderr
    finally:
        host.run(f"kill -CONT {' '.join(processes)}")
    assert read_as_alice(host).stdout.splitlines()[-1] == "done"
    assert apply_role().returncode == 0


@with_packages
def test_systemd_mounts_it_as_well(host: Host, apply_role: ApplyRole) -> None:
    run = apply_role(cvmfs_mount_method="systemd")
    try:
        assert run.returncode == 0, run.stdout
        assert read_as_alice(host).stdout.splitlines()[-1] == "done"
        assert "changed=0" in apply_role(cvmfs_mount_method="systemd").stdout
    finally:
        back = apply_role()
    assert back.returncode == 0, back.stdout


@pytest.mark.chaos
@with_packages
def test_a_key_with_another_fingerprint_changes_nothing(host: Host, apply_role: ApplyRole) -> None:
    # The host has the right key already; a site that moves to another mirror asks for the new one.
    before = host.check_output("cat /etc/apt/sources.list.d/campushub-cvmfs.sources | sha256sum")
    run = apply_role(cvmfs_key_fingerprint="0" * 40)
    assert run.returncode != 0
    assert "does not fit the key at" in " ".join(run.stdout.split())
    assert host.check_output("cat /etc/apt/sources.list.d/campushub-cvmfs.sources | sha256sum") == before


@with_packages
@with_script
def test_a_kernel_from_the_repository_runs(host: Host, view: str) -> None:
    del view
    code = "import os, sys; print(sys.executable, os.environ.get('PYTHONPATH'))"
    said = "".join(content["text"] or "" for content in run_cell(host, "real", code)["said"])
    assert "/cvmfs/" in said
    assert "leak" not in said


@with_packages
@with_script
def test_a_terminal_enters_an_environment_of_the_repository(host: Host) -> None:
    entered = as_alice(host, "campushub-env real python3 -c 'import sys; print(sys.executable)'")
    assert entered.rc == 0, entered.stderr
    assert "/cvmfs/" in entered.stdout
