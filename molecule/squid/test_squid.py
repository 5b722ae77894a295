"""A cache that serves its clients and its servers only: the distribution's squid in front of a server that counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest
from testinfra.host import Host

from tests.site.centre import wait_until

# Answers as a server of a repository does, and says how often it was asked for a path.
SERVER = """
import collections, http.server, time
asked = collections.Counter()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked[self.path] += 1
        body = str(asked[self.path]).encode()
        if self.path.startswith('/slow'):
            time.sleep(2)
        self.send_response(200)
        self.send_header('Cache-Control', 'max-age=61')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', 8000), Handler).serve_forever()
"""
CONFIGURATION = "/etc/squid/squid.conf"
# curl is not on every host; this says status, whether it was in the cache, and the text. Squid 6 has another header.
FETCH = """
import http.client, sys
connection = http.client.HTTPConnection('127.0.0.1', 3128, timeout=20, source_address=(sys.argv[1], 0))
connection.request(sys.argv[3] if len(sys.argv) > 3 else 'GET', sys.argv[2])
answer = connection.getresponse()
text = answer.read(99).decode(errors='replace').split('\\n')[0]
said = answer.getheader('X-Cache') or answer.getheader('Cache-Status') or ''
print(answer.status, 'HIT' if said.startswith('HIT') or ';hit' in said else 'MISS', text)
"""
CLIENT = "127.0.0.2"
STRANGER = "127.0.0.3"


def fetch(host: Host, url: str, client: str = CLIENT, method: str = "GET") -> list[str]:
    """Ask squid for a URL; return status, whether it was a hit, and the text."""
    asked = host.run("python3 -c %s %s %s %s", FETCH, client, url, method)
    assert asked.rc == 0, asked.stderr
    return str(asked.stdout).strip().split(" ", 2)


@pytest.fixture(autouse=True, scope="module")
def server(host: Host) -> Iterator[None]:
    """A server on the host, as long as the tests of the module run."""
    started = host.run("systemd-run --unit=counting-server --collect python3 -c %s", SERVER)
    assert started.rc == 0, started.stderr
    connect = "import socket; socket.create_connection(('127.0.0.1', 8000))"
    assert host.run("for i in $(seq 50); do python3 -c %s && exit; sleep 0.2; done; exit 1", connect).rc == 0
    yield
    host.run("systemctl stop counting-server")


def test_a_second_fetch_is_a_hit(host: Host) -> None:
    path = f"http://127.0.0.1:8000/data/{time.time_ns()}"
    assert fetch(host, path) == ["200", "MISS", "1"]
    assert fetch(host, path) == ["200", "HIT", "1"]


def test_clients_that_ask_at_once_are_one_request(host: Host) -> None:
    url = f"http://127.0.0.1:8000/slow/{time.time_ns()}"
    both = host.run("python3 -c %s %s %s & python3 -c %s %s %s; wait", FETCH, CLIENT, url, FETCH, CLIENT, url)
    assert [line.split()[2] for line in both.stdout.splitlines()] == ["1", "1"]


def test_squid_has_no_doubts_about_its_configuration(host: Host) -> None:
    parsed = host.run("squid -k parse")
    assert parsed.rc == 0
    assert not [line for line in parsed.stderr.splitlines() if "ERROR" in line or "WARNING" in line]


@pytest.mark.attack
def test_a_client_outside_the_networks_is_refused(host: Host) -> None:
    assert fetch(host, "http://127.0.0.1:8000/x", STRANGER)[0] == "403"


@pytest.mark.attack
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.4:8000/x",
        "http://deb.debian.org:8000/",
        "http://127.0.0.1:22/",
        "http://127.0.0.1.example.com:8000/",
    ],
)
def test_a_destination_outside_the_list_is_refused(host: Host, url: str) -> None:
    assert fetch(host, url)[0] == "403"


@pytest.mark.attack
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_sent_through_it(host: Host, method: str) -> None:
    assert fetch(host, "http://127.0.0.1:8000/x", method=method)[0] == "403"


@pytest.mark.attack
def test_nobody_learns_what_others_read(host: Host) -> None:
    for client in ("127.0.0.1", CLIENT):
        assert fetch(host, "http://127.0.0.1:3128/squid-internal-mgr/objects", client)[0] == "403"


@pytest.mark.attack
def test_nobody_gets_a_tunnel(host: Host) -> None:
    asked = host.run(
        "python3 -c %s",
        "import socket; s = socket.create_connection(('127.0.0.1', 3128), source_address=('127.0.0.2', 0)); "
        "s.sendall(b'CONNECT 127.0.0.1:8000 HTTP/1.1\\r\\n\\r\\n'); print(s.recv(99).split()[1].decode())",
    )
    assert asked.stdout.strip() == "403"


@pytest.mark.chaos
def test_a_killed_squid_comes_back(host: Host) -> None:
    before = host.check_output("systemctl show --value --property=MainPID squid")
    host.run("kill -KILL %s", before)
    for _ in range(60):
        after = host.check_output("systemctl show --value --property=MainPID squid")
        if after not in ("0", before) and host.run("systemctl is-active --quiet squid").rc == 0:
            break
        time.sleep(0.5)
    assert after not in ("0", before), host.run("systemctl status squid").stdout
    assert fetch(host, f"http://127.0.0.1:8000/after/{time.time_ns()}")[:2] == ["200", "MISS"]


@pytest.mark.chaos
def test_a_bad_configuration_never_takes_the_place_of_a_good_one(
    host: Host, apply_role: Callable[..., CompletedProcess[str]]
) -> None:
    before = host.check_output("sha256sum %s", CONFIGURATION)
    # The site's own lines belong to the configuration that squid is asked about.
    host.run("echo 'http_access allow no_such_acl' > /etc/squid/conf.d/90-broken.conf")
    try:
        run = apply_role(squid_memory_mb=65)
        assert run.returncode != 0
        assert "refuses the new text" in run.stdout
        assert host.check_output("sha256sum %s", CONFIGURATION) == before
        assert host.run("systemctl is-active --quiet squid").rc == 0
    finally:
        host.run("rm -f /etc/squid/conf.d/90-broken.conf")
    assert fetch(host, f"http://127.0.0.1:8000/still/{time.time_ns()}")[0] == "200"


@pytest.mark.attack
def test_lines_of_the_site_are_read_and_no_user_sees_them(host: Host) -> None:
    own = "/etc/squid/conf.d/50-own.conf"
    host.check_output(f"echo 'visible_hostname own.example.org' >{own}")
    page = "curl -s http://127.0.0.1:3128/ | grep -c own.example.org"
    try:
        assert host.run(f"runuser -u nobody -- cat {own}").rc != 0
        # Squid, which has given up root's rights by now, reads it.
        host.check_output("squid -k reconfigure")
        wait_until(lambda: host.run(page).rc == 0, "squid to read the lines", 30)
    finally:
        host.check_output(f"rm {own}; squid -k reconfigure")
    wait_until(lambda: host.run(page).rc != 0, "squid to read its lines again", 30)


def test_a_changed_setting_takes_effect(host: Host, apply_role: Callable[..., CompletedProcess[str]]) -> None:
    run = apply_role(squid_client_networks=[f"{CLIENT}/32", f"{STRANGER}/32"])
    assert run.returncode == 0, run.stdout
    assert fetch(host, "http://127.0.0.1:8000/x", STRANGER)[0] == "200"
    assert apply_role().returncode == 0
    assert fetch(host, "http://127.0.0.1:8000/x", STRANGER)[0] == "403"


def test_logs_are_rotated(host: Host) -> None:
    fetch(host, "http://127.0.0.1:8000/x")
    assert host.run("logrotate --force /etc/logrotate.d/squid").rc == 0
    assert host.file("/var/log/squid/access.log.1").exists
    fetch(host, "http://127.0.0.1:8000/y")
    assert "8000/y" in host.check_output("sleep 1; cat /var/log/squid/access.log")


def test_the_distributions_configuration_is_kept(host: Host) -> None:
    assert host.file(f"{CONFIGURATION}.campushub.disabled").exists


def test_removal_puts_it_back(host: Host, apply_role: Callable[..., CompletedProcess[str]]) -> None:
    assert apply_role(squid_state="absent").returncode == 0
    assert "Managed by CampusHub" not in host.file(CONFIGURATION).content_string
    assert host.run("systemctl is-active --quiet squid").rc != 0
    assert host.run("systemctl is-enabled --quiet squid").rc != 0
    # A squid that the site has had before goes on as before.
    assert host.run("echo '# of the site' >>%s", CONFIGURATION).rc == 0
    assert apply_role().returncode == 0
    assert apply_role(squid_state="absent").returncode == 0
    assert host.file(CONFIGURATION).content_string.endswith("# of the site\n")
    assert host.run("systemctl is-active squid && systemctl is-enabled squid").stdout.split() == ["active", "enabled"]
    assert "changed=0" in apply_role(squid_state="absent").stdout
    assert apply_role().returncode == 0
    assert fetch(host, "http://127.0.0.1:8000/x")[0] == "200"
