"""Every message of the module check_host, on real sockets of this machine."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.facts.system.distribution import Distribution

from plugins.modules import check_host

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def listening(address: str) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        yield listener.getsockname()[1]


def wanted(port: int, **others: Any) -> dict[str, Any]:
    return {"port": port, "addresses": ["0.0.0.0"], "units": [], "purpose": "the hub", "remedy": "", **others}


def me() -> str:
    return f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"


def test_free_port_is_no_problem() -> None:
    with listening("127.0.0.1") as port:
        pass
    assert check_host.port_problems([wanted(port)]) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::", "::1"])
def test_taken_port_names_who_holds_it_and_what_to_do(address: str) -> None:
    with listening(address) as port:
        (problem,) = check_host.port_problems([wanted(port, remedy="choose another jupyterhub_port")])
    start = f"port {port} is needed for the hub but {me()}"
    assert problem.startswith(start)
    assert problem.endswith(" holds it. Stop that program or choose another jupyterhub_port.")


def test_socket_on_another_address_does_not_stand_in_the_way() -> None:
    with listening("127.0.0.2") as port:
        assert check_host.port_problems([wanted(port, addresses=["127.0.0.1"])]) == []
        assert len(check_host.port_problems([wanted(port, addresses=["[::1]", "127.0.0.2"])])) == 1


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A /proc in which nginx.service holds port 443, systemd with it, as with socket activation."""
    (tmp_path / "net").mkdir()
    row = "   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0"
    (tmp_path / "net/tcp").write_text(f"  sl  local_address rem_address   st\n{row}\n")
    for number, name, cgroup in ((1, "systemd", "/init.scope"), (80, "nginx", "/system.slice/nginx.service")):
        (tmp_path / f"{number}/fd").mkdir(parents=True)
        (tmp_path / f"{number}/fd/3").symlink_to("socket:[4711]")
        (tmp_path / f"{number}/comm").write_text(f"{name}\n")
        (tmp_path / f"{number}/cgroup").write_text(f"3:memory:/\n1:name=systemd:{cgroup}\n")
    return tmp_path


def test_port_held_by_its_own_unit_is_no_problem(planted: Path) -> None:
    assert check_host.port_problems([wanted(443, units=["nginx.service"])], planted) == []


def test_descriptors_closed_meanwhile_hide_no_holder(planted: Path) -> None:
    """A busy server closes some between the list of them and the look at each: these lead nowhere."""
    for number in (*range(3), *range(4, 40)):
        (planted / f"80/fd/{number}").touch()
    # In the middle, in whatever order they are listed.
    names = [entry.name for entry in os.scandir(planted / "80/fd")]
    (planted / "80/fd/3").unlink()
    (planted / "80/fd" / names[20]).unlink()
    (planted / "80/fd" / names[20]).symlink_to("socket:[4711]")
    assert check_host.port_problems([wanted(443, units=["nginx.service"])], planted) == []


def test_unit_of_the_holder_is_named(planted: Path) -> None:
    assert check_host.port_problems([wanted(443)], planted) == [
        "port 443 is needed for the hub but nginx (process 80) of nginx.service holds it. Stop that program."
    ]


def test_holder_outside_the_container_is_not_made_up(planted: Path) -> None:
    for number in (1, 80):
        (planted / f"{number}/fd/3").unlink()
    assert check_host.port_problems([wanted(443)], planted) == [
        "port 443 is needed for the hub but a program that cannot be seen from here holds it. Stop that program."
    ]


def test_too_little_disk(tmp_path: Path) -> None:
    missing = tmp_path / "opt/campushub"
    (problem,) = check_host.disk_problems(str(missing), 10**12)
    assert problem.startswith(f"{missing} has ")
    assert problem.endswith(
        f" MB of free disk (on {tmp_path}) and needs {10**12} MB. Free some or mount a bigger disk there."
    )
    assert check_host.disk_problems(str(missing), 1) == []


def test_too_little_memory(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        1000000 kB\nMemFree: 1 kB\n")
    assert check_host.memory_problems(1500, meminfo) == [
        "memory is 1024 MB and the least that works is 1500 MB. Give the host more memory."
    ]
    assert check_host.memory_problems(1024, meminfo) == []


def test_name_of_a_group_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "group").write_text("root:x:0:\nssl-cert:x:112:\nlab:x:3000:\n")
    managed = {"accounts_users": ["ann", "ssl-cert"], "accounts_groups": ["lab"], "accounts_access_group": ["hub"]}
    assert check_host.managed_name_problems(managed, tmp_path) == [
        ('accounts_users = ["ssl-cert"] is the name of a group of the system on this host. Choose another name.')
    ]


def test_users_of_the_system_are_found_with_their_groups(tmp_path: Path) -> None:
    users = "root:x:0:0::/root:/bin/sh\nhub:x:997:997::/:/bin/false\nalice:x:2001:2001::/:/bin/sh\n"
    (tmp_path / "passwd").write_text(users)
    (tmp_path / "group").write_text("shadow:x:42:hub,alice\n\n+\n# none\nadm:x:4:hub\nhub:x:997:\n")
    assert check_host.system_users(tmp_path) == {"root": [], "hub": ["adm", "shadow"]}


def test_no_systemd_and_old_python(tmp_path: Path) -> None:
    problems = check_host.system_problems(tmp_path / "none", (3, 7, 3))
    assert problems[0] == (
        "does not run systemd, which starts, stops and limits everything here. Use a machine that was booted with "
        "systemd."
    )
    assert problems[1].startswith("its Python (")
    assert problems[1].endswith(
        ") is 3.7.3 and 3.9 is needed. Install a newer one and name it in ansible_python_interpreter."
    )
    assert check_host.system_problems(tmp_path, (3, 9, 0)) == []


def test_apt_sources_of_both_formats(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://off.example.org/debian bookworm main\n"
        "deb [signed-by=/x.gpg] http://deb.example.org/debian bookworm main\n"
        "deb http://deb.example.org/debian bookworm-updates main\n"
        "deb-src http://source.example.org/debian bookworm main\n"
        "deb https://flat.example.org/repo ./\n"
        "deb file:///srv/mirror bookworm main\n"
    )
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\nURIs: http://security.example.org/debian-security\nSuites: trixie-security trixie\n"
        "\nTypes: deb\nEnabled: no\nURIs: http://disabled.example.org\nSuites: trixie\n"
    )
    assert check_host.apt_sources(tmp_path) == [
        "http://deb.example.org/debian/dists/bookworm/Release",
        "https://flat.example.org/repo/./Release",
        "http://security.example.org/debian-security/dists/trixie-security/Release",
    ]


@pytest.mark.parametrize(
    ("text", "name", "family"),
    [
        ('ID=debian\nVERSION_ID="12"', "Debian 12", "Debian"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"', "Ubuntu 24", "Debian"),
        ('ID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.4"', "RedHat 9", "RedHat"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"', "Rocky 9", "RedHat"),
        ('ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"', "AlmaLinux 9", "RedHat"),
        ('ID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="9"', "CentOS 9", "RedHat"),
        ('ID="ol"\nID_LIKE="fedora"\nVERSION_ID="9.4"', "OracleLinux 9", "RedHat"),
        ('NAME="Arch Linux"\nID=arch', "Arch Linux ", "RedHat"),
        ("", "linux ", "RedHat"),
    ],
)
def test_distribution_has_the_name_that_ansible_knows(tmp_path: Path, text: str, name: str, family: str) -> None:
    release = tmp_path / "os-release"
    release.write_text(f"{text}\n")
    facts = check_host.distribution(release)
    assert f"{facts['ansible_distribution']} {facts['ansible_distribution_major_version']}" == name
    assert facts["ansible_os_family"] == family


def test_ansible_says_the_same_of_this_machine() -> None:
    facts = {f"ansible_{name}": value for name, value in Distribution(None).get_distribution_facts().items()}
    ours = check_host.distribution()
    assert ours["ansible_distribution_version"].split(".")[0] == facts["ansible_distribution_major_version"]
    for name in ours.keys() - {"ansible_distribution_version"}:
        assert ours[name] == facts[name], name


def test_mirror_must_have_the_distribution_of_the_host(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('NAME="Debian"\nVERSION_CODENAME=trixie\n')
    assert check_host.release_of("http://mirror/debian/", release) == "http://mirror/debian/dists/trixie/Release"
    release.write_text('NAME="Red Hat"\n')
    assert check_host.release_of("http://mirror/el", release) == "http://mirror/el"


class Source(http.server.BaseHTTPRequestHandler):
    """A package source that answers with the status at the end of the path, like /404, and with a clock of its own."""

    date = staticmethod(lambda: formatdate(usegmt=True))

    def do_HEAD(self) -> None:
        self.send_response_only(int(self.path.split("/")[-1]))
        self.send_header("Date", self.date())
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def serving(certificate: Path | None = None, hours_ahead: float = 0) -> Iterator[str]:
    handler = type("Handler", (Source,), {"date": staticmethod(lambda: formatdate(time.time() + 3600 * hours_ahead))})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    scheme = "http"
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"{scheme}://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run(["openssl", *request.split(), *names], check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


def problems_of(url: str, **others: Any) -> tuple[list[str], list[str]]:
    parameters = {
        "sources": [{"url": url, "setting": "base_apt_mirror"}],
        "http_proxy": "",
        "https_proxy": "",
        "no_proxy": "",
        "ca_certificates": [],
        "deadline": 1,
        **others,
    }
    answer: tuple[list[str], list[str]] = check_host.source_problems(parameters)
    return answer


def complaint(url: str, **others: Any) -> str:
    (problem,), _ = problems_of(url, **others)
    start = f"the package source {url} is of no use: "
    assert problem.startswith(start)
    return problem.removeprefix(start)


@pytest.mark.parametrize("status", [200, 405, 501])
def test_source_that_answers_is_no_problem(status: int) -> None:
    with serving() as url:
        assert problems_of(f"{url}/{status}") == ([], [])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "it answers 404 Not Found. Check the path of the URL, or set base_apt_mirror."),
        (503, "it answers 503 Service Unavailable. Check the path of the URL, or set base_apt_mirror."),
        (
            403,
            (
                "it refuses with 403 Forbidden. Put user and password in the URL, have this host allowed, "
                "or set base_apt_mirror."
            ),
        ),
    ],
)
def test_source_that_refuses(status: int, message: str) -> None:
    with serving() as url:
        assert complaint(f"{url}/{status}") == message


def test_proxy_that_wants_a_password() -> None:
    with serving() as url:
        assert complaint("http://mirror.example.org/407", http_proxy=url) == (
            "the proxy asks for a password. Put user and password in the URL of the proxy, or set base_apt_mirror."
        )


def test_nothing_listens() -> None:
    with listening("127.0.0.1") as port:
        pass
    assert complaint(f"http://127.0.0.1:{port}/") == (
        "no connection (Connection refused). Check the URL, the firewall and the proxy settings, "
        "or set base_apt_mirror."
    )


def test_dead_proxy() -> None:
    with listening("127.0.0.1") as port:
        pass
    assert complaint("http://mirror.example.org/", http_proxy=f"http://127.0.0.1:{port}") == (
        "no connection (Connection refused). Check the URL, the firewall and the proxy settings, "
        "or set base_apt_mirror."
    )


def test_proxy_is_passed_by_for_its_exceptions() -> None:
    with listening("127.0.0.1") as port:
        pass
    with serving() as url:
        assert problems_of(f"{url}/200", http_proxy=f"http://127.0.0.1:{port}", no_proxy="127.0.0.1") == ([], [])


def test_unknown_name() -> None:
    assert complaint("http://mirror.invalid/") == (
        "its name cannot be resolved. Check the name, /etc/resolv.conf and the proxy settings, or set base_apt_mirror."
    )


def test_a_silent_source_costs_no_more_than_the_deadline() -> None:
    with listening("127.0.0.1") as port:
        started = time.monotonic()
        message = complaint(f"http://127.0.0.1:{port}/")
        assert time.monotonic() - started < 2
    assert message == "no answer in 1 s. Check the firewall and the proxy settings, or set base_apt_mirror."


def test_authority_of_the_site_is_needed_and_is_enough(certificate: Path) -> None:
    with serving(certificate) as url:
        message = complaint(f"{url}/200")
        assert message.startswith("its certificate is not trusted (self")
        assert message.endswith(
            "). Put the certificate of the site's authority in base_ca_certificates, or set base_apt_mirror."
        )
        text = certificate.with_suffix(".crt").read_text()
        assert problems_of(f"{url}/200", ca_certificates=[text]) == ([], [])


def test_certificate_that_is_none() -> None:
    (problem,), _ = problems_of("http://127.0.0.1/", ca_certificates=["hello"])
    assert problem.startswith("base_ca_certificates has something that is no certificate in PEM (")
    assert problem.endswith("). Give the text from BEGIN to END.")


@pytest.mark.parametrize(("hours", "direction"), [(2, "behind"), (-2, "ahead of")])
def test_clock(hours: float, direction: str) -> None:
    with serving(hours_ahead=hours) as url:
        assert problems_of(f"{url}/200") == (
            [],
            [
                (
                    f"its clock is 120 minutes {direction} that of the package sources, so certificates and logins "
                    "will fail. Switch on time synchronisation (timedatectl set-ntp true)."
                )
            ],
        )


def test_password_in_a_url_is_not_shown() -> None:
    with serving() as url:
        (problem,), _ = problems_of(url.replace("//", "//me:secret@") + "/404")
    assert "secret" not in problem
    assert f"{url.replace('//', '//…@')}/404" in problem


# What hosts of a cluster need of each other


def reach(address: str, port: int) -> list[str]:
    wanted = {"address": address, "port": port, "purpose": "the hub's API", "setting": "jupyterhub_slurm_address"}
    return check_host.reach_problems([wanted], 1)


def test_a_port_that_listens_or_does_not_yet_is_reached() -> None:
    with listening("127.0.0.1") as port:
        assert reach("127.0.0.1", port) == []
    assert reach("127.0.0.1", port) == []


def test_a_hub_that_is_not_reached_is_named() -> None:
    (problem,) = reach("hub.invalid", 984)
    assert problem == (
        "the hub's API is not reached at hub.invalid, port 984: its name cannot be resolved. Open that port for this "
        "host in firewalls, or correct jupyterhub_slurm_address."
    )


def test_a_firewall_that_drops_packets_is_named() -> None:
    """A stand-in for it: where so many wait already, the kernel does not answer whoever comes."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        (problem,) = reach("127.0.0.1", listener.getsockname()[1])
    assert "no answer in 1 s" in problem


def test_devices_that_a_host_has_not_are_named() -> None:
    assert check_host.device_problems(["/dev/null", "/dev/zero"]) == []
    (problem,) = check_host.device_problems(["/dev/null", "/dev/nvidia97", "/etc/passwd"])
    assert problem == (
        "slurm_gpus = 3 but this host has no device /dev/nvidia97, /etc/passwd, so that slurmd would not start. "
        "Install the driver of the card (nvidia-smi lists it), or name the files of its devices in slurm_gpu_files."
    )


def test_what_hosts_of_a_cluster_have_in_common_is_found(tmp_path: Path) -> None:
    nothing = check_host.cluster_facts(tmp_path)
    assert (nothing["name"], nothing["key"], nothing["foreign"]) == ("", "", False)
    assert abs(nothing["time"] - time.time()) < 5
    files = {"var/lib/slurm/slurmctld/clustername": "centre|1234\n", "etc/munge/munge.key": "k" * 128}
    for name, text in {**files, "etc/slurm/slurm.conf": "ClusterName=centre\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    found = check_host.cluster_facts(tmp_path)
    assert (found["name"], found["foreign"]) == ("centre", True)
    assert len(found["key"]) == 16
    assert "kkkk" not in found["key"]
    (tmp_path / "etc/slurm/slurm.conf").write_text("# Managed by CampusHub\nClusterName=centre\n")
    assert check_host.cluster_facts(tmp_path)["foreign"] is False
