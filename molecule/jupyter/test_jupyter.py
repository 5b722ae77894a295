"""What people get: servers that start as theirs, kernels that nobody else reaches, and upgrades that disturb nobody."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from testinfra.host import Host

from tests.exposure import exposure

HERE = Path(__file__).parent
LINK = "/opt/campushub/user"
# As servers are unless `jupyterhub_allow_sudo` is set; others start by themselves.
UNPRIVILEGED = "-p NoNewPrivileges=yes"
# The longest name that Linux allows: with it a socket in the home directory would have too long a path.
LONG_NAME = "a" * 32
PEOPLE = ("alice", "bob", LONG_NAME)
ApplyRole = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Server:
    """A running server of a user."""

    host: Host
    user: str
    pid: int
    url: str

    def get(self, path: str) -> Any:
        """Return the answer of the server's REST API."""
        return json.loads(self.host.check_output("curl -sf -H 'Authorization: token secret' %s", self.url + path))

    def status(self, path: str, method: str = "GET") -> str:
        """Return the HTTP status of a page."""
        command = "curl -s -o /dev/null -w '%%{http_code}' -H 'Authorization: token secret' -X %s %s"
        return str(self.host.check_output(command, method, self.url + path))

    def save(self, path: str, text: str) -> Any:
        """Save a file, and return the answer."""
        body = json.dumps({"type": "file", "format": "text", "content": text})
        self.host.run(f"echo {shlex.quote(body)} >/run/jupyter-tests/body")
        command = "curl -s -X PUT -H 'Authorization: token secret' -d @/run/jupyter-tests/body %s"
        return json.loads(self.host.check_output(command, f"{self.url}api/contents/{path}"))

    def run_cell(self, code: str, kernel: str = "python3") -> dict[str, Any]:
        """Run a cell in a new kernel, or in the one with that id."""
        command = f"{LINK}/bin/python -I /run/jupyter-tests/run_cell.py %s %s %s"
        result: dict[str, Any] = json.loads(self.host.check_output(command, self.url, kernel, code))
        return result

    def kernel_processes(self) -> list[str]:
        """Return the processes of the server's kernels."""
        return str(self.host.check_output("pgrep -u %s -f ipykernel_launcher", self.user)).split()


def copy(host: Host, name: str) -> None:
    """Put a file of this scenario on the host."""
    content = base64.b64encode((HERE / name).read_bytes()).decode()
    host.run_expect([0], f"mkdir -p /run/jupyter-tests && echo {content} | base64 -d >/run/jupyter-tests/{name}")


def as_user(host: Host, user: str, command: str) -> Any:
    """Run a command in a login shell of a user."""
    return host.run("su - %s -c %s", user, command)


@pytest.fixture(scope="module", autouse=True)
def people(host: Host) -> None:
    """Make the accounts that the tests log in with, and put the helpers on the host."""
    for name in PEOPLE:
        host.run_expect([0], f"id {name} 2>/dev/null || useradd --create-home --shell /bin/bash {name}")
        host.run_expect([0], f"chmod 0700 /home/{name}")
    copy(host, "single_user.py")
    copy(host, "run_cell.py")


@pytest.fixture
def start(host: Host) -> Iterator[Callable[[str], Server]]:
    """Start the server of a user; it ends with the test."""
    units: list[str] = []

    def started(user: str, properties: str = UNPRIVILEGED) -> Server:
        units.append(f"test-server-{len(units)}-{user}")
        described = f"/run/single-user-{user}.json"
        program = f"{LINK}/bin/jupyterhub-singleuser"
        host.run_expect([0], f"rm -f {described}")
        host.run_expect(
            [0],
            f"systemd-run -q --collect {properties} --unit {units[-1]} "
            f"python3 /run/jupyter-tests/single_user.py {user} {program}",
        )
        wait = f"for i in $(seq 300); do [ -s {described} ] && exit; sleep 0.1; done; exit 1"
        waited = host.run(f"sh -c {shlex.quote(wait)}")
        assert waited.rc == 0, host.run(f"journalctl -n 50 -u {units[-1]}").stdout
        about = json.loads(host.check_output(f"cat {described}"))
        return Server(host, user, about["pid"], about["url"])

    yield started
    for unit in units:
        host.run(f"systemctl stop {unit}")


@pytest.mark.attack
def test_environment_can_be_read_by_all_and_written_by_root_only(host: Host) -> None:
    assert host.file(LINK).is_symlink
    assert host.check_output(f"find {LINK}/ ! -user root -o ! -type l -perm /022") == ""
    assert host.check_output(f"find {LINK}/ -type f ! -perm -444 -o -type d ! -perm -555") == ""
    # Compiled, or every start of everybody would compile it again.
    assert int(host.check_output(f"find {LINK}/lib/ -name 'serverapp.*.pyc' | wc -l")) == 1


def test_build_leaves_no_cache_behind(host: Host) -> None:
    assert host.check_output("ls -A /opt/campushub | grep -v -e '^user' -e '^uv$' -e '^wheels$' || true") == ""
    assert not host.file("/root/.cache/uv").exists


def test_cell_plots_and_its_kernel_listens_on_no_port(host: Host, start: Callable[[str], Server]) -> None:
    server = start("alice")
    code = "import numpy, matplotlib.pyplot as plt; plt.plot(numpy.arange(9)); plt.show()"
    result = server.run_cell(code)
    assert result["error"] is None
    assert "image/png" in result["types"]
    (kernel,) = server.kernel_processes()
    listening = host.check_output("ss -H -l -n -p -t -u")
    assert f"pid={server.pid}," in listening
    assert f"pid={kernel}," not in listening


def test_bar_of_limits_is_in_the_pages(host: Host, start: Callable[[str], Server]) -> None:
    """Without a slice of the hub it counts the unit of the server."""
    server = start("alice")
    for page in ("lab", "tree"):
        assert '"name": "campushub-session"' in host.check_output(
            "curl -sf -H 'Authorization: token secret' %s", server.url + page
        )
    assert server.get("api/session/usage")["memory"]["used"] > 20 * 2**20
    assert server.get("api/session/announcement")["texts"] == {}
    server.run_cell("1")
    assert {program["kind"] for program in server.get("api/session/programs")} >= {"server", "kernel"}


def test_output_of_child_processes_arrives(start: Callable[[str], Server]) -> None:
    code = """
        import multiprocessing, time
        child = multiprocessing.get_context("fork").Process(target=print, args=("from a child",))
        child.start(); child.join(); time.sleep(0.5)
    """
    result = start("alice").run_cell(textwrap.dedent(code))
    assert (result["error"], result["text"]) == (None, "from a child\n")


@pytest.mark.attack
def test_other_user_cannot_reach_a_kernel(host: Host, start: Callable[[str], Server]) -> None:
    server = start("alice")
    server.run_cell("1")
    directory = f"/run/jupyterhub-users/{host.user('alice').uid}"
    sockets = host.check_output(f"find {directory} -type s").split()
    # Five channels and the output of child processes; kernels that have gone left nothing.
    assert len(sockets) == 6
    for path in sockets:
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
        assert as_user(host, "alice", f'/usr/bin/python3 -c "{code}"').rc == 0
        refused = as_user(host, "bob", f'/usr/bin/python3 -c "{code}"')
        assert "PermissionError" in refused.stderr


@pytest.mark.attack
def test_debugger_that_would_listen_without_a_password_is_off(start: Callable[[str], Server]) -> None:
    server = start("alice")
    result = server.run_cell("import ipykernel.debugger; print(ipykernel.debugger._is_debugpy_available)")
    assert result["text"] == "False\n"


def test_longest_user_name_gets_a_kernel(start: Callable[[str], Server]) -> None:
    assert start(LONG_NAME).run_cell("print(6 * 7)")["text"] == "42\n"


def test_files_whose_names_are_no_text_are_reached(host: Host, start: Callable[[str], Server]) -> None:
    """As old archives bring them; renamed in the browser, they have a name that is."""
    server = start("alice")
    assert as_user(host, "alice", r"mkdir odd && cd odd && echo one >$(printf '\317\360\350.txt')").rc == 0
    (entry,) = server.get("api/contents/odd")["content"]
    path = quote(entry["path"])
    assert server.get(f"api/contents/{path}")["content"] == "one\n"
    rename = f"curl -sf -X PATCH -H 'Authorization: token secret' -d '{{\"path\": \"odd/good.txt\"}}' {server.url}"
    host.check_output(f"{rename}api/contents/{path}")
    assert as_user(host, "alice", "ls odd").stdout == "good.txt\n"
    assert server.status("api/contents/odd", "DELETE") == "204"


@pytest.mark.chaos
def test_a_save_on_a_full_disk_is_told(host: Host, start: Callable[[str], Server]) -> None:
    """Nothing of a new file stays, which would be a broken notebook."""
    server = start("alice")
    host.check_output("mkdir -p /home/alice/full && mount -t tmpfs -o size=8k,uid=$(id -u alice) full /home/alice/full")
    try:
        message = server.save("full/new.txt", "x" * 20_000)["message"]
        assert message == "Not saved: the disk, or your quota of it, is full. (full/new.txt)"
        assert host.check_output("ls -A /home/alice/full") == ""
    finally:
        host.check_output("umount /home/alice/full && rmdir /home/alice/full")


@pytest.fixture(params=["bytes", "inodes"])
def full_home(host: Host, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give bob a home of his own size, without a byte or an inode left."""
    options = "size=2m,nr_inodes=60,mode=700,uid=$(id -u bob),gid=$(id -g bob)"
    host.check_output(f"mount -t tmpfs -o {options} home /home/bob && su bob -c 'echo old >/home/bob/old.txt'")
    fill = {"bytes": "cat /dev/zero >fill", "inodes": "mkdir fill && touch fill/$(seq -s ' fill/' 100)"}[request.param]
    assert as_user(host, "bob", fill).rc != 0
    yield request.param
    host.check_output("umount --lazy /home/bob")


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_full_home_locks_nobody_out(host: Host, full_home: str, start: Callable[[str], Server]) -> None:
    server = start("bob")
    assert [server.status(page) for page in ("lab", "tree", "api/contents/old.txt")] == ["200", "200", "200"]
    assert server.run_cell("print(6 * 7)")["text"] == "42\n"
    assert server.status("api/terminals", "POST") == "200"
    assert "is full" in server.save("old.txt", "new")["message"]
    assert as_user(host, "bob", "cat old.txt; find . -type f -size 0 ! -path './fill/*'").stdout == "old\n"
    found = server.get("api/session/space")
    part = found["home"]["bytes" if full_home == "bytes" else "files"]
    assert part["used"] == part["limit"]
    # The next start, in a home where a server has been.
    assert start("bob").run_cell("print(6 * 7)")["text"] == "42\n"


def test_lab_notebook_and_terminals_are_served(host: Host, start: Callable[[str], Server]) -> None:
    server = start("alice")
    assert [server.status(page) for page in ("lab", "tree", "api/terminals")] == ["200", "200", "200"]
    page = host.check_output("curl -sf -H 'Authorization: token secret' %s", f"{server.url}lab")
    configuration = json.loads(page.split('id="jupyter-config-data" type="application/json">')[1].split("</script>")[0])
    assert configuration["terminalsAvailable"] is True
    assert configuration["news"]["disabled"] is True
    assert server.status("proxy/22") == "404"
    settings = server.get("lab/api/settings/@jupyterlab/apputils-extension:notification")
    assert settings["schema"]["properties"]["fetchNews"]["default"] == "false"
    extensions = host.check_output(
        'curl -s -X POST -H \'Authorization: token secret\' -d \'{"cmd": "install", "extension_name": "x"}\' %s',
        f"{server.url}lab/api/extensions",
    )
    assert '"status": "error"' in extensions or '"message"' in extensions
    assert not host.file("/home/alice/.npm").exists


def test_pages_are_in_the_language_of_the_browser(host: Host, start: Callable[[str], Server]) -> None:
    """With the real language pack."""
    server = start("alice")
    setting = f"{server.url}lab/api/settings/@jupyterlab/translation-extension:plugin"
    for browser, locale in (("ru-RU,ru;q=0.9,en;q=0.8", "ru_RU"), ("en-US,en;q=0.9", "en")):
        command = "curl -sf -H 'Authorization: token secret' -H %s %s"
        found = json.loads(host.check_output(command, f"Accept-Language: {browser}", setting))
        assert found["schema"]["properties"]["locale"]["default"] == locale
    assert server.get("lab/api/translations/ru_RU")["data"]["jupyterlab"]["menu\x04File"] == ["Файл"]


def test_a_folder_is_deleted_with_what_is_in_it(host: Host, start: Callable[[str], Server]) -> None:
    server = start("alice")
    assert as_user(host, "alice", "mkdir -p old/part && touch old/part/data").rc == 0
    assert server.status("api/contents/old", "DELETE") == "204"
    assert not host.file("/home/alice/old").exists
    assert not host.file("/home/alice/.local/share/Trash").exists


def test_idle_server_takes_at_most_90_mb(host: Host, start: Callable[[str], Server]) -> None:
    server = start("alice")
    memory = host.check_output(f"cat /proc/{server.pid}/smaps_rollup")
    resident = next(int(line.split()[1]) for line in memory.splitlines() if line.startswith("Rss:"))
    assert resident * 1024 < 90e6


def parent(host: Host, server: Server) -> str:
    """Return the process that a server was forked or started from."""
    return str(host.check_output(f"ps -o ppid= -p {server.pid}")).strip()


def prefork_pid(host: Host) -> str:
    """Return the process of the service that forks servers."""
    return str(host.check_output("systemctl show --value -p MainPID campushub-prefork"))


def same(host: Host, server: Server) -> bool:
    """Return whether the kernel says of a server what it says of the process that accompanies it."""
    client = host.check_output(f"pgrep -o -u {server.user} -f bin/jupyterhub-singleuser")
    looks = (
        "cat /proc/{}/cgroup /proc/{}/oom_score_adj /proc/{}/limits; ls -l /proc/{}/ns | sed 's/.*->//'; "
        "grep -E '^([UG]id|Groups|Cap[IPEA]|NoNewPrivs|Seccomp|Sig[BI]|Umask|Cpus_all|Mems_all)' /proc/{}/status"
    )
    shown = [host.check_output(looks.replace("{}", str(pid))) for pid in (client, server.pid)]
    return bool(client != str(server.pid) and shown[0] == shown[1])


def test_servers_are_forked_with_what_their_unit_has(host: Host, start: Callable[..., Server]) -> None:
    confined = (
        f"{UNPRIVILEGED} -p RestrictRealtime=yes -p PrivateTmp=yes "
        "-p RestrictAddressFamilies='AF_UNIX AF_INET AF_INET6 AF_NETLINK' -p SystemCallFilter=~@module -p MemoryMax=1G "
        "-p PrivateIPC=yes -p LimitNOFILE=1000:2000 -p Nice=3 -p OOMScoreAdjust=100"
    )
    server = start("bob", confined)
    assert parent(host, server) == prefork_pid(host)
    assert same(host, server)
    code = "import os; print(open('/proc/self/cgroup').read(), os.path.exists('/tmp/of-the-host'))"
    host.check_output("touch /tmp/of-the-host")
    cell = server.run_cell(code)
    assert "test-server-" in cell["text"]
    assert "False" in cell["text"]


@pytest.mark.one_host
def test_servers_outlive_the_service_and_start_without(host: Host, start: Callable[..., Server]) -> None:
    before = start("alice")
    assert parent(host, before) == prefork_pid(host)
    host.check_output("systemctl kill -s KILL campushub-prefork")
    host.check_output("systemctl stop campushub-prefork")
    alone = start("bob")
    host.check_output("systemctl start campushub-prefork")
    assert (before.status("api"), alone.status("api")) == ("200", "200")
    # What has accompanied a fork has become the server.
    assert "No fork: " in host.check_output(f"journalctl --sync && journalctl --no-pager _PID={alone.pid}")


@pytest.mark.one_host
def test_many_starts_leave_nothing_behind(host: Host) -> None:
    """As a user who starts one server after another; only so many of them are forked."""
    wait = "for i in $(seq 100); do [ -S /run/campushub-prefork/user.sock ] && exit; sleep 0.1; done; exit 1"
    host.check_output(f"sh -c {shlex.quote(wait)}")
    pid = prefork_pid(host)
    look = f"ls /proc/{pid}/fd | wc -l; awk '/VmRSS/ {{print int($2 / 4096)}}' /proc/{pid}/status; pgrep -c -P {pid}"
    before = host.run(look).stdout
    program = f"{LINK}/bin/jupyterhub-singleuser --version"
    start = f"systemd-run -q --pipe --wait --collect {UNPRIVILEGED} -p User=bob {program} 2>&1"
    said = str(host.check_output(f"for i in $(seq 50); do {start} </dev/null; done"))
    by_themselves = [line for line in said.splitlines() if line.startswith("No fork: ")]
    assert len(by_themselves) <= 40
    assert all("starts no more for this user" in line for line in by_themselves)
    assert host.run(look).stdout == before


def start_kernels(host: Host) -> str:
    """Wait for the service that forks kernels; return its process."""
    wait = "for i in $(seq 200); do [ -S /run/campushub-prefork-kernels/user.sock ] && exit; sleep 0.1; done; exit 1"
    host.check_output(f"systemctl start campushub-prefork-kernels && sh -c {shlex.quote(wait)}")
    return str(host.check_output("systemctl show --value -p MainPID campushub-prefork-kernels"))


def test_a_forked_kernel_is_as_by_itself(host: Host, start: Callable[..., Server]) -> None:
    """With the packages of the environment: what their imports find out is what it would be without a fork."""
    service = start_kernels(host)
    server = start("alice", f"{UNPRIVILEGED} -p MemoryMax=1G -p PrivateTmp=yes")
    code = (HERE / "about_kernel.py").read_text()
    answers = []
    for parent in (service, str(server.pid)):
        answers.append(server.run_cell(code))
        (kernel,) = server.kernel_processes()
        assert host.check_output(f"ps -o ppid= -p {kernel}").strip() == parent
        server.status(f"api/kernels/{answers[-1]['kernel']}", "DELETE")
        # Without the service the next one starts by itself.
        host.check_output("systemctl stop campushub-prefork-kernels")
    start_kernels(host)
    assert [answer["error"] for answer in answers] == [None, None]
    assert json.loads(answers[0]["text"]) == json.loads(answers[1]["text"])


def test_settings_of_matplotlib_and_threads_count_in_forks(host: Host, start: Callable[..., Server]) -> None:
    """What a package reads as it is imported is what is there at that moment, not what the service has seen."""
    service = start_kernels(host)
    server = start("bob")
    places = "/home/bob/.config/matplotlib/stylelib"
    styles = f"mkdir -p {places} && echo 'lines.linewidth: 8' >{places}/mine.mplstyle"
    host.check_output("su bob -c %s", f"{styles} && echo 'lines.linewidth: 7' >/home/bob/matplotlibrc")
    code = (
        "import os; os.environ['OMP_NUM_THREADS'] = '1'; import ctypes, numpy, matplotlib.pyplot as plt; "
        "(library, *_) = [line.split()[-1] for line in open('/proc/self/maps') if 'openblas' in line]; "
        "print(plt.rcParams['lines.linewidth'], ctypes.CDLL(library).scipy_openblas_get_num_threads64_()); "
        "plt.style.use('mine'); print(plt.rcParams['lines.linewidth']); plt.plot([1, 2]); plt.show()"
    )
    result = server.run_cell(code)
    host.check_output(f"rm -r {places} /home/bob/matplotlibrc")
    assert (result["text"].split(), result["error"]) == (["7.0", "1", "8.0"], None)
    assert "image/png" in result["types"]
    (kernel,) = server.kernel_processes()
    assert host.check_output(f"ps -o ppid= -p {kernel}").strip() == service


def test_a_forked_kernel_counts_as_its_users(host: Host, start: Callable[..., Server]) -> None:
    service = start_kernels(host)
    server = start("alice", f"{UNPRIVILEGED} -p MemoryMax=400M -p MemorySwapMax=0")
    code = (
        "import os, numpy; x = numpy.ones((60, 1000, 1000), 'u1'); print(os.getpid(), open('/proc/self/cgroup').read())"
    )
    cell = server.run_cell(code)
    assert "test-server-" in cell["text"]
    programs = server.get("api/session/programs")
    kernels = [program for program in programs if program["kind"] == "kernel"]
    assert [kernel["memory"] > 60e6 for kernel in kernels] == [True], programs
    # The limit ends it and nothing else, and its server knows of which kernel to tell.
    code = "x = bytearray(1); [x.extend(bytes(10**7)) for _ in range(200)]"
    program = f"{LINK}/bin/python -I /run/jupyter-tests/run_cell.py"
    host.run(f"timeout 5 {program} {server.url} {cell['kernel']} {shlex.quote(code)}")
    told = f"The kernel {cell['kernel']} was killed for want of memory"
    wait = f"for i in $(seq 100); do journalctl _PID={server.pid} | grep -qF '{told}' && exit; sleep 0.2; done; exit 1"
    host.check_output(f"sh -c {shlex.quote(wait)}")
    assert server.status("api") == "200"
    assert host.check_output("systemctl show --value -p MainPID campushub-prefork-kernels") == service


@pytest.mark.attack
def test_forked_servers_are_closed_to_other_users(host: Host, start: Callable[..., Server]) -> None:
    server = start("alice")
    assert parent(host, server) == prefork_pid(host)
    place = f"/proc/{server.pid}"
    looks = [f"cat {place}/environ", f"cat {place}/maps", f"ls {place}/fd/", f"readlink {place}/ns/mnt"]
    assert [look for look in looks if as_user(host, "bob", look).rc == 0] == []
    assert [look for look in looks if as_user(host, "alice", look).rc != 0] == []
    assert as_user(host, "bob", f"kill -0 {server.pid}").rc != 0
    # Nor has it anything of the service: its user, who alone sees them, finds no secret there and no file.
    variables = host.check_output(f"tr '\\0' '\\n' <{place}/environ | grep -oE '^[A-Z_]+' | sort").split()
    assert not {name for name in variables if name.startswith(("JUPYTER", "CREDENTIALS"))}
    files = host.check_output(f"find {place}/fd -lname 'socket:*' -o -lname '/*' | sort")
    opened = [host.check_output(f"readlink {number}") for number in files.split()]
    service = host.check_output(f"find /proc/{prefork_pid(host)}/fd -lname 'socket:*' -printf '%l\n'").split()
    assert len(set(opened) & set(service)) == 1, "besides the connection to the client"


@pytest.mark.attack
def test_service_that_forks_reaches_little_of_the_host(host: Host) -> None:
    for name in ("campushub-prefork", "campushub-prefork-kernels"):
        assert exposure(host, f"{name}.service") <= 7.0
        # With a right to everybody's files a mistake of it would be one with everybody's files.
        rights = host.check_output(f"systemctl show --value --property=CapabilityBoundingSet {name}").split()
        assert "cap_setuid" in rights
        assert [right for right in rights if right.startswith(("cap_dac", "cap_fowner", "cap_chown"))] == []


@pytest.mark.attack
def test_command_line_programs_keep_kernels_off_the_network_too(host: Host) -> None:
    notebook = {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": "a",
                "metadata": {},
                "outputs": [],
                "source": "!ls -A; ss -Hltnp",
            }
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    content = base64.b64encode(json.dumps(notebook).encode()).decode()
    prepare = f"mkdir -p nb && cd nb && echo {content} | base64 -d >n.ipynb"
    run = as_user(
        host, "bob", f"{prepare} && jupyter nbconvert --log-level=ERROR --to notebook --execute --stdout n.ipynb"
    )
    assert run.rc == 0, run.stderr
    (output,) = json.loads(run.stdout)["cells"][0]["outputs"]
    files, *ports = "".join(output["text"]).splitlines()
    # ss names the process of a port if it is the user's own.
    assert [port for port in ports if "pid=" in port] == []
    assert files == "n.ipynb", "sockets in the notebook's directory"


def test_shells_of_users_find_the_environment_those_of_root_not(host: Host) -> None:
    assert as_user(host, "alice", "command -v python jupyter pip").stdout.split() == [
        f"{LINK}/bin/{name}" for name in ("python", "jupyter", "pip")
    ]
    assert LINK not in host.check_output("su - root -c 'echo $PATH'")


def test_people_add_kernels_of_their_own(host: Host, start: Callable[[str], Server]) -> None:
    added = as_user(host, "alice", "python -m ipykernel install --user --name mine --display-name Mine")
    assert added.rc == 0, added.stderr
    server = start("alice")
    kernels = server.get("api/kernelspecs")["kernelspecs"]
    assert kernels["mine"]["spec"]["display_name"] == "Mine"
    assert server.run_cell("import sys; print(sys.prefix)", "mine")["text"] == f"{LINK}\n"


def test_people_install_packages_for_themselves(host: Host, start: Callable[[str], Server]) -> None:
    server = start("bob")
    result = server.run_cell("%pip install --quiet --user --disable-pip-version-check cowsay==6.1")
    assert result["error"] is None
    assert server.run_cell("import cowsay; print(cowsay.__file__)")["text"].startswith("/home/bob/.local/lib/")
    assert as_user(host, "bob", "cowsay -t moo").stdout.count("moo") == 1
    assert as_user(host, "alice", "python -c 'import cowsay'").rc != 0


def test_packages_of_the_distribution_are_not_seen(host: Host, start: Callable[[str], Server]) -> None:
    assert host.run("/usr/bin/python3 -c 'import apt'").rc == 0
    assert start("alice").run_cell("import apt")["error"].startswith("ModuleNotFoundError")


@pytest.mark.chaos
def test_broken_packages_of_a_user_do_not_stop_the_server(host: Host, start: Callable[[str], Server]) -> None:
    folder = as_user(host, "alice", "python -m site --user-site").stdout.strip()
    broken = (
        f"mkdir -p {folder} && cd {folder} && echo 'raise SystemExit(1)' | tee usercustomize.py jupyter_server_x.py"
        " tornado.py jupyterhub.py >/dev/null && echo 'import sys; sys.exit(1)' >broken.pth"
    )
    assert as_user(host, "alice", broken).rc == 0
    try:
        # The kernel is the user's own affair, the server is not.
        assert start("alice").status("lab") == "200"
    finally:
        assert as_user(host, "alice", f"rm -r {folder}").rc == 0


@pytest.mark.chaos
def test_upgrade_and_way_back_disturb_no_running_server(
    host: Host, start: Callable[[str], Server], apply_role: ApplyRole
) -> None:
    old = host.check_output(f"readlink {LINK}")
    server = start("alice")
    running = server.run_cell("x = 41")["kernel"]

    extra = ["jupyter-resource-usage==1.3.0"]
    upgrade = apply_role(jupyter_extra_packages=extra, jupyter_keep_versions=0, jupyter_prefork_kernels=False)
    assert upgrade.returncode == 0, upgrade.stdout
    assert not host.file("/etc/systemd/system/campushub-prefork-kernels.service").exists
    assert host.run("systemctl is-active campushub-prefork-kernels").stdout.strip() == "inactive"
    assert host.run("systemctl is-active campushub-prefork").stdout.strip() == "active"
    new = host.check_output(f"readlink {LINK}")
    assert new != old

    # The server that runs keeps its version and can still start kernels, in that version.
    assert server.run_cell("print(x + 1)", running)["text"] == "42\n"
    assert server.run_cell("import sys; print(sys.prefix)")["text"] == f"/opt/campushub/{old}\n"
    assert server.run_cell("import jupyter_resource_usage")["error"].startswith("ModuleNotFoundError")

    # A server that starts has the new version, and the site's package with its extensions.
    other = start("bob")
    probe = "import sys, jupyter_resource_usage as j; print(sys.prefix, j.__file__.split('/')[4])"
    assert other.run_cell(probe)["text"] == f"/opt/campushub/{new} layer\n"
    assert other.status("api/metrics/v1") == "200"
    labextensions = [extension["name"] for extension in other.get("lab/api/extensions")]
    assert "@jupyter-server/resource-usage" in labextensions

    back = apply_role()
    assert back.returncode == 0, back.stdout
    assert host.check_output(f"readlink {LINK}") == old
    assert host.run("systemctl is-active campushub-prefork-kernels").stdout.strip() == "active"
    assert other.run_cell(probe)["text"] == f"/opt/campushub/{new} layer\n"
    # Nothing is removed while it is in use.
    assert apply_role(jupyter_keep_versions=0).returncode == 0
    assert host.file(f"/opt/campushub/{new}").is_directory
    host.run_expect([0], "systemctl stop 'test-server-*.service'")
    unused = apply_role(jupyter_keep_versions=0)
    assert unused.returncode == 0, unused.stdout
    # What was installed by people with the removed version goes on with the one in use.
    assert host.check_output(f"readlink /opt/campushub/{new}") == "user"


@pytest.mark.chaos
def test_refused_package_leaves_the_environment_as_it_is(host: Host, apply_role: ApplyRole) -> None:
    old = host.check_output(f"readlink {LINK}")
    refused = apply_role(jupyter_extra_packages=["pandas<1"])
    assert refused.returncode != 0
    assert "the extra packages (pandas<1) do not go with the locked ones" in refused.stdout
    assert f"{LINK} still leads to {old}." in refused.stdout
    assert host.check_output(f"readlink {LINK}") == old
    assert host.check_output("ls -d /opt/campushub/.user* 2>/dev/null || true") == ""


def test_absent_removes_everything(host: Host, apply_role: ApplyRole) -> None:
    removed = apply_role(jupyter_state="absent")
    assert removed.returncode == 0, removed.stdout
    assert host.check_output("ls -d /opt/campushub/user* /etc/profile.d/campushub.sh 2>/dev/null || true") == ""
    assert host.check_output("find /etc/jupyter /etc/ipython 2>/dev/null || true") == ""
    assert apply_role(check=True).returncode == 0
