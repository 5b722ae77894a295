"""What the reverse proxy does, seen by browsers before it and by a stand-in for the hub behind it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import os
import re
import secrets
import shlex
import socket
import ssl
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.exposure import exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAME = "hub.example.test"
PEM = "/etc/ssl/private/campushub.pem"
SITE = "/etc/nginx/conf.d/campushub.conf"


@dataclass
class Door:
    """A test host, and ways to knock at it."""

    host: Host
    address: str

    def connect(self, name: str = NAME, alpn: str = "http/1.1", **versions: ssl.TLSVersion) -> ssl.SSLSocket:
        """Open a TLS connection, as somebody who does not look at the certificate."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols([alpn])
        for setting, version in versions.items():
            setattr(context, setting, version)
        if versions:
            # Otherwise the client itself would refuse old versions.
            context.set_ciphers("ALL:@SECLEVEL=0")
        return context.wrap_socket(socket.create_connection((self.address, 443), timeout=20), server_hostname=name)

    def ask(
        self, path: str = "/headers", method: str = "GET", body: bytes | None = None, sni: str = NAME, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Return status, headers and text of an answer over TLS. Underscores in names of headers are hyphens."""
        connection = http.client.HTTPConnection(self.address)
        connection.sock = self.connect(sni)
        return self._answer(connection, method, path, body, headers)

    def ask_plainly(self, path: str = "/", **headers: str) -> tuple[int, dict[str, str], str]:
        """The same without TLS."""
        return self._answer(http.client.HTTPConnection(self.address, timeout=20), "GET", path, None, headers)

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> tuple[int, dict[str, str], str]:
        with contextlib.closing(connection):
            named = {"Host": NAME, **{name.replace("_", "-"): value for name, value in headers.items()}}
            connection.request(method, path, body=body, headers=named)
            got = connection.getresponse()
            content = got.read()
            fields = {name.lower(): value for name, value in got.getheaders()}
            if fields.get("content-encoding") == "gzip":
                content = gzip.decompress(content)
            return got.status, fields, content.decode()

    def certificate(self) -> str:
        """The certificate that is served."""
        with self.connect() as tls:
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")

    def websocket(self, user: str = "ada") -> WebSocket:
        """Open a websocket to a user's server."""
        return WebSocket(self.connect(), user)

    def apply(self, **settings: Any) -> Run:
        """Apply the role with other settings than those of the scenario."""
        name = self.host.check_output("hostname")
        run = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "ansible",
                    "playbook",
                    "-i",
                    os.environ["MOLECULE_INVENTORY_FILE"],
                    "--limit",
                    name,
                ),
                *("--extra-vars", json.dumps(settings), ROOT / "molecule" / "shared" / "converge.yml"),
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "MOLECULE_SCENARIO_NAME": "web"},
            capture_output=True,
            text=True,
            check=False,
        )
        output = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr)
        changed = re.search(r"changed=(\d+)", output)
        # A reload is over when the new workers are there.
        time.sleep(0.5)
        return Run(run.returncode, output, int(changed.group(1)) if changed else -1)


@dataclass
class Run:
    """How a run of the playbook ended."""

    code: int
    output: str
    changed: int

    def fine(self) -> Run:
        """The run itself, which must have ended well."""
        assert self.code == 0, self.output
        return self


class WebSocket:
    """The least that a browser does to speak through a websocket."""

    def __init__(self, tls: ssl.SSLSocket, user: str) -> None:
        self.tls = tls
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = [f"GET /user/{user}/api/kernels/1/channels HTTP/1.1", f"Host: {NAME}", f"Origin: https://{NAME}"]
        lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        tls.sendall("\r\n".join([*lines, "", ""]).encode())
        self.status = self._until(b"\r\n\r\n").split()[1].decode()

    def _until(self, end: bytes) -> bytes:
        text = b""
        while not text.endswith(end):
            text += self._read(1)
        return text

    def _read(self, count: int) -> bytes:
        text = b""
        while len(text) < count:
            piece = self.tls.recv(count - len(text))
            assert piece, "the connection was closed"
            text += piece
        return text

    def echo(self, text: str) -> str:
        """Say something and return the answer."""
        payload, mask = text.encode(), secrets.token_bytes(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.tls.sendall(struct.pack("BB", 0x81, 0x80 | len(payload)) + mask + masked)
        _, length = struct.unpack("BB", self._read(2))
        return self._read(length).decode()


@pytest.fixture(scope="module")
def door(host: Host) -> Iterator[Door]:
    """The reverse proxy with a stand-in for the hub behind it."""
    address = host.backend.hostname
    program = base64.b64encode((HERE / "stub_hub.py").read_bytes()).decode()
    host.check_output(f"echo {program} | base64 -d >/usr/local/lib/stub_hub.py")
    host.run("systemctl stop stub-hub; systemctl reset-failed stub-hub")
    host.check_output("systemd-run --quiet --unit=stub-hub python3 /usr/local/lib/stub_hub.py")
    wait(lambda: host.run("curl -s http://127.0.0.1:980/headers").rc == 0)
    yield Door(host, address)
    host.run("systemctl stop stub-hub; rm -f /usr/local/lib/stub_hub.py")


def wait(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)


def nginx_directives(host: Host, name: str) -> set[str]:
    """All values of a directive in the configuration that nginx has read."""
    whole = host.check_output("nginx -T 2>/dev/null")
    ours = whole.partition(f"# configuration file {SITE}:")[2].partition("# configuration file ")[0]
    return set(re.findall(rf"^\s*{name}\s+([^;]+);", ours, re.MULTILINE))


def openssl(*arguments: str | Path) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def subject(pem: str) -> str:
    return subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-issuer", "-serial", "-ext", "subjectAltName"],
        input=pem, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


def own_pair(directory: Path, name: str, *names: str) -> tuple[Path, Path]:
    """A certificate signed by a CA, followed by that of the CA, and its key."""
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "60")
    if not ca.exists():
        openssl("req", "-x509", *new, "-subj", "/CN=Test CA", "-keyout", ca_key, "-out", ca)
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    covered = "subjectAltName=" + ",".join(f"DNS:{name}" for name in names or (NAME,))
    signed = ("-CA", ca, "-CAkey", ca_key, "-subj", f"/CN={name}", "-addext", covered)
    openssl(
        "req",
        "-x509",
        *new,
        *signed,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        key,
        "-out",
        certificate,
    )
    certificate.write_text(certificate.read_text() + ca.read_text())
    return certificate, key


# --- as the scenario sets it up -----------------------------------------------------------------------------------


def test_plain_http_is_redirected(door: Door) -> None:
    status, headers, _ = door.ask_plainly("/hub/login?next=%2Flab")
    assert (status, headers["location"]) == (301, f"https://{NAME}/hub/login?next=%2Flab")


@pytest.mark.attack
def test_names_that_are_not_ours_are_refused(door: Door) -> None:
    assert door.ask_plainly("/", Host="evil.example.org")[0] == 421
    assert door.ask("/headers", Host="evil.example.org")[0] == 421
    assert door.ask("/headers", sni="evil.example.org", Host="evil.example.org")[0] == 421
    assert door.ask("/headers", sni="localhost", Host="localhost")[0] == 200
    assert door.ask("/headers", sni="localhost", Host="127.0.0.1")[0] == 200


@pytest.mark.attack
def test_only_modern_tls_is_spoken(door: Door) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with door.connect(minimum_version=version, maximum_version=version) as tls:
            assert tls.version() == version.name.replace("_", ".")
    for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        for name in (NAME, "evil.example.org"):
            with pytest.raises(ssl.SSLError):
                door.connect(name, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=old)
    assert nginx_directives(door.host, "ssl_protocols") == {"TLSv1.2 TLSv1.3"}


@pytest.mark.attack
def test_ciphers_without_forward_secrecy_are_refused(door: Door) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256:AES256-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(socket.create_connection((door.address, 443), timeout=20), server_hostname=NAME)


def test_http2_is_offered(door: Door) -> None:
    with door.connect(alpn="h2") as tls:
        assert tls.selected_alpn_protocol() == "h2"
    status = door.host.check_output(
        "curl -sk --http2 -o /dev/null -w '%{http_version} %{http_code}' https://localhost/headers"
    )
    assert status == "2 200"


def test_the_self_signed_certificate_covers_all_names(door: Door) -> None:
    pem = door.certificate()
    trusting = ssl.create_default_context(cadata=pem)
    for name in (NAME, "localhost", "127.0.0.1"):
        raw = socket.create_connection((door.address, 443), timeout=20)
        with trusting.wrap_socket(raw, server_hostname=name) as tls:
            assert tls.version()
    assert door.host.file(PEM).mode == 0o600
    assert (door.host.file(PEM).user, door.host.file(PEM).group) == ("root", "root")
    assert door.host.run(f"sudo -u nobody cat {PEM}").rc != 0


def test_a_self_signed_certificate_brings_no_hsts(door: Door) -> None:
    assert "strict-transport-security" not in door.ask()[1]


@pytest.mark.attack
def test_headers_protect_the_browser_and_hide_the_version(door: Door) -> None:
    headers = door.ask("/hub/login")[1]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "strict-origin-when-cross-origin"
    assert headers["server"] == "nginx"
    assert door.ask("/user/ada/share")[1]["referrer-policy"] == "no-referrer"


@pytest.mark.attack
def test_pages_of_users_get_no_hold_of_the_hub(door: Door) -> None:
    """All have one origin here. Calls of the API, which must have what is in its pages, and its pictures are served."""
    for path in ("/hub/login", "/hub/..%2fx"):
        status, headers, _ = door.ask(path, Sec_Fetch_Mode="navigate", Sec_Fetch_Site="same-origin")
        assert status != 403
        assert headers["cross-origin-opener-policy"] == "same-origin"
    for mode in ("cors", "no-cors", "same-origin"):
        for path in ("login", "home", "%68ome", "..%2fx", "x/..%2fapi/x", "api/oauth2/authorize?client_id=x"):
            assert door.ask(f"/hub/{path}", Sec_Fetch_Mode=mode)[0] == 403, (mode, path)
        # As the hub tells Lab that a server has ended.
        assert door.ask("/hub/user/ada/api/kernels", Sec_Fetch_Mode=mode)[0] == 424
        assert door.ask("/hub/announcement", Sec_Fetch_Mode=mode)[0] != 403
        # Where an open page asks why its server has ended.
        assert door.ask(f"/hub/server-state/ada//{'0' * 64}", Sec_Fetch_Mode=mode, Sec_Fetch_Site="same-site")[0] != 403
        assert door.ask("/hub/api/headers", Sec_Fetch_Mode=mode)[0] == 200
        assert door.ask("/hub/static/headers", Sec_Fetch_Mode=mode)[0] == 200
        assert door.ask("/user/ada/headers", Sec_Fetch_Mode=mode)[0] == 200
    headers = door.ask("/user/ada/share")[1]
    assert headers["cross-origin-opener-policy"] == "unsafe-none"
    assert "service-worker-allowed" not in headers


@pytest.mark.attack
def test_hub_learns_the_address_from_nginx_not_from_the_client(door: Door) -> None:
    forged: dict[str, Any] = {
        "X_Forwarded_For": "198.51.100.66",
        "X_Real_IP": "198.51.100.66",
        "X_Forwarded_Proto": "http",
        "X_Forwarded_Host": "evil.example.org",
        "X_Forwarded_Port": "1",
        "X_Forwarded_Prefix": "/evil",
        "X_Scheme": "http",
        "Forwarded": "for=198.51.100.66;host=evil.example.org",
        "Remote_User": "root",
    }
    heard = json.loads(door.ask("/headers", **forged)[2])
    assert "198.51.100.66" not in str(heard)
    assert "evil" not in str(heard)
    me = heard["x-real-ip"]
    with door.connect() as tls:
        assert me == tls.getsockname()[0]
    assert heard["x-forwarded-for"] == me
    assert heard["x-forwarded-proto"] == heard["x-scheme"] == "https"
    assert heard["host"] == heard["x-forwarded-host"] == NAME
    assert heard["x-forwarded-port"] == "443"
    assert not {"forwarded", "remote-user", "x-forwarded-prefix"} & set(heard)


@pytest.mark.attack
def test_only_logins_carry_the_word_by_which_the_hub_knows_nginx(door: Door) -> None:
    def carried(path: str) -> str | None:
        found: str | None = json.loads(door.ask(path, X_Campushub_Proxy_Secret="forged")[2]).get(
            "x-campushub-proxy-secret"
        )
        return found

    assert carried("/headers") is None
    door.host.check_output("umask 077; echo '~^/hub/login(\\?|$) secret-word;' >/etc/ssl/private/proof.conf")
    door.apply(web_proxy_secret_file="/etc/ssl/private/proof.conf").fine()
    try:
        assert carried("/hub/login?next=headers") == "secret-word"
        # What would reach a user's server goes without, however it is written.
        for path in (
            "/headers",
            "/user/headers/../../hub/login",
            "/hub/login/../../user/headers",
            "/hub/login%2Fheaders",
        ):
            assert carried(path) is None, path
    finally:
        door.apply().fine()
    assert carried("/hub/login?next=headers") is None


@pytest.mark.attack
def test_cookies_are_secure(door: Door) -> None:
    parts = {part.strip().lower() for part in door.ask("/hub/login")[1]["set-cookie"].split(";")}
    assert parts == {"id=1", "path=/hub/", "secure"}


@pytest.mark.chaos
def test_a_websocket_goes_through_and_survives_a_reload(door: Door) -> None:
    socket_ = door.websocket()
    assert socket_.status == "101"
    assert socket_.echo("привет") == "привет"
    workers = "ps --ppid $(cat /run/nginx.pid) -o pid="
    before = set(door.host.check_output(workers).split())
    door.host.check_output("systemctl reload nginx")
    wait(lambda: set(door.host.check_output(workers).split()) - before)
    assert socket_.echo("still here") == "still here"
    assert door.websocket().echo("a new one") == "a new one"


def test_uploads_stream_and_have_a_limit(door: Door) -> None:
    size = 48 * 1024 * 1024
    with door.connect() as tls:
        tls.sendall(f"PUT /upload HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {size}\r\n\r\n".encode())
        piece = bytes(1024 * 1024)
        for _ in range(size // 2 // len(piece)):
            tls.sendall(piece)
        # Half of it is sent, and the hub has got it: nginx does not keep it.
        wait(lambda: int(door.ask("/uploaded")[2]) == size // 2)
        for _ in range(size // 2 // len(piece)):
            tls.sendall(piece)
        assert tls.recv(4096).endswith(str(size).encode())
    too_large: dict[str, Any] = {"Content_Length": str(65 * 1024 * 1024), "Accept_Language": "ru"}
    status, headers, text = door.ask("/upload", "PUT", **too_large)
    assert (status, headers["content-language"]) == (413, "ru")
    assert "Файл слишком велик" in text
    assert "64M" in text


def test_long_headers_go_through_and_longer_ones_are_explained(door: Door) -> None:
    cookies = [f"c{number}={'x' * 4000}" for number in range(12)]
    for path in ("/headers", "/user/ada/headers", "/hub/login?next=headers"):
        assert json.loads(door.ask(path, Cookie="; ".join(cookies[:7]))[2])["cookie"].endswith(cookies[6])
    status, headers, text = door.ask("/hub/logout", Cookie="; ".join(cookies))
    assert (status, headers["content-type"]) == (431, "text/html; charset=utf-8")
    assert "Delete the cookies of this site" in text
    # Browsers send each by itself under HTTP/2, and so more of them.
    sent = " ".join(f"-H 'Cookie: {cookie}'" for cookie in cookies)
    for path, given in (
        ("/hub/logout", sent),
        ("/headers", sent),
        (f"/hub/{'x' * 10000}", f"{sent} -H Accept-Language:ru"),
    ):
        said = door.host.check_output(
            f"curl -sk --http2 -w ' %{{http_version}} %{{http_code}}' {given} https://localhost{path}"
        )
        assert said.endswith(" 2 431"), said[-80:]
        assert ("Delete the cookies" in said) == ("ru" not in given)


@pytest.mark.attack
@pytest.mark.one_host
def test_who_takes_all_connections_keeps_nobody_else_away(door: Door) -> None:
    door.apply(web_connections_per_user=200, web_connections_per_address=300).fine()
    held: list[WebSocket] = []
    try:
        held += [door.websocket() for _ in range(200)]
        assert {one.status for one in held} == {"101"}
        status, headers, text = door.ask("/user/ada/headers")
        assert (status, headers["content-language"]) == (429, "en")
        assert "Too many connections" in text
        assert door.ask("/hub/login")[0] == 200, "the same address reaches the hub"
        held += [door.websocket("ben") for _ in range(100)]
        assert {one.status for one in held} == {"101"}, "and another user's server"
        assert door.ask("/hub/login")[0] == 429
        assert door.host.check_output("curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1/hub/login") == "200", (
            "another address is not concerned"
        )
    finally:
        for one in held:
            one.tls.close()
        door.apply().fine()


def test_nginx_takes_more_connections_than_by_default(door: Door) -> None:
    limits = door.host.check_output("cat /proc/$(pgrep -o -P $(cat /run/nginx.pid))/limits")
    files = re.search(r"^Max open files +(\d+)", limits, re.MULTILINE)
    # A test host may have less than 65536.
    assert files
    assert int(files[1]) > 16384
    assert "worker_connections 16384;" in door.host.check_output("nginx -T 2>/dev/null")


@pytest.mark.attack
def test_nginx_reaches_little_of_the_host(door: Door) -> None:
    assert exposure(door.host, "nginx.service") <= 5.0


@pytest.mark.chaos
def test_nginx_that_is_killed_comes_back(door: Door) -> None:
    for _ in range(6):  # More often than systemd starts a unit again by itself.
        door.host.check_output("kill -KILL $(cat /run/nginx.pid)")
        wait(lambda: door.host.run("systemctl is-active nginx && curl -sfk https://localhost/headers").rc == 0)


def test_progress_arrives_while_it_happens(door: Door) -> None:
    began = time.monotonic()
    with door.connect() as tls:
        tls.sendall(f"GET /hub/progress HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
        text = b""
        while b"data: 1" not in text:
            text += tls.recv(4096)
        assert time.monotonic() - began < 2


def test_programs_are_compressed_and_pages_are_not(door: Door) -> None:
    status, headers, text = door.ask("/user/ada/static/lab/main.js", Accept_Encoding="gzip")
    assert (status, headers["content-encoding"], len(text)) == (200, "gzip", 102_000)
    for path in ("/hub/login", "/user/ada/api/contents"):
        assert "content-encoding" not in door.ask(path, Accept_Encoding="gzip")[1], path


def test_the_settings_of_lab_are_compressed(door: Door) -> None:
    status, headers, text = door.ask("/user/ada/lab/api/settings?1700000000000", Accept_Encoding="gzip")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert len(json.loads(text)["settings"]) == 102_000


@pytest.fixture
def own_files(door: Door) -> Iterator[str]:
    """Files of an environment, and one beside them; yields the name of one that may be served."""
    name, share = "1.fedcba9876543210.js", "/srv/test-environment/share/jupyter"
    for path in (f"lab/static/{name}", f"labextensions/@site/x/static/{name}", f"secret/{name}", "lab/static/main.js"):
        door.host.check_output(f"install -D -m 644 /dev/null {share}/{path} && echo of nginx, {path} >{share}/{path}")
    yield name
    door.host.check_output("rm -r /srv/test-environment")


def test_files_with_a_hash_come_from_nginx_and_are_kept(door: Door, own_files: str) -> None:
    """Of any user, also where no server runs, whatever they are called."""
    for path in ("static/lab", "second/static/lab", "lab/extensions/@site/x/static"):
        status, headers, text = door.ask(f"/user/ada/{path}/{own_files}")
        assert (status, text.startswith("of nginx, ")) == (200, True), path
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert headers["content-type"].endswith("/javascript")
        assert headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in headers


def test_files_of_another_environment_come_from_its_server(door: Door, own_files: str) -> None:
    status, headers, text = door.ask("/user/ada/lab/extensions/@own/x/static/1.0123456789abcdef.js")
    assert (status, len(text)) == (200, 102_000)
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    # With it one user's server could put itself between all others and their browsers.
    assert "service-worker-allowed" not in headers
    # What has no hash may be another one tomorrow, and a server that does not run may run then.
    status, headers, text = door.ask("/user/ada/static/lab/main.js")
    assert (status, headers["cache-control"], len(text)) == (200, "no-cache", 102_000)
    for path, status in (("/user/gone/static/lab/2.0123456789abcdef.js", 302), (f"/user/ada/lab/{own_files}", 404)):
        code, headers, _ = door.ask(path)
        assert (code, "immutable" in headers.get("cache-control", "")) == (status, False), path


@pytest.mark.attack
def test_no_other_file_of_the_host_is_served(door: Door, own_files: str) -> None:
    door.host.check_output(f"cp /etc/hostname /srv/test-environment/share/{own_files}")
    for path in (
        f"static/lab/../../secret/{own_files}",
        f"static/lab/..%2f..%2fsecret/{own_files}",
        f"lab/extensions/../secret/{own_files}",
        f"lab/extensions/..%2fsecret/{own_files}",
        f"lab/extensions/@site/..%2f..%2fsecret/{own_files}",
        f"lab/extensions//..%2f..%2f..%2f{own_files}",
        f"lab/extensions/%2e%2e/%2e%2e/%2e%2e/{own_files}",
        f"static/lab/{own_files}%00",
    ):
        status, _, text = door.ask(f"/user/ada/{path}")
        assert (status in (400, 404), "of nginx" in text) == (True, False), path


@pytest.mark.attack
def test_the_state_of_nginx_is_not_shown(door: Door) -> None:
    for path in ("/nginx_status", "/status", "/stub_status"):
        assert door.ask(path)[::2] == (404, "nothing here")
    assert not nginx_directives(door.host, "stub_status")


def test_errors_of_the_hub_are_explained_others_passed_on(door: Door) -> None:
    status, headers, text = door.ask("/hub/home", Accept_Language="ru-RU,ru;q=0.9,en;q=0.8")
    assert (status, headers["content-language"]) == (503, "ru")
    assert "Хаб перезапускается" in text
    assert door.ask("/hub/api/user")[::2] == (503, '{"message": "gone"}')
    assert door.ask("/user/ada/api/kernels")[::2] == (503, "not running")


@pytest.mark.chaos
def test_people_are_told_in_their_language_when_the_hub_is_away(door: Door) -> None:
    door.host.check_output("systemctl stop stub-hub")
    try:
        for languages, title, language in (
            ("ru-RU,ru;q=0.9,en-US;q=0.8", "Хаб перезапускается…", "ru"),
            ("uk,ru;q=0.9,en;q=0.8", "Хаб перезапускается…", "ru"),
            ("en-US,en;q=0.9,ru;q=0.8", "The hub is restarting…", "en"),
            ("de-DE,de;q=0.9", "The hub is restarting…", "en"),
        ):
            for path in ("/", "/hub/login", "/user/ada/lab"):
                status, headers, text = door.ask(path, Accept_Language=languages)
                assert (status, headers["content-language"]) == (503, language)
                assert headers["content-type"] == "text/html; charset=utf-8"
                assert headers["cache-control"] == "no-store"
                assert headers["x-content-type-options"] == "nosniff"
                assert title in text
                assert 'http-equiv="refresh"' in text
                # It must do without anything else from a server that is away.
                assert not re.findall(r"(?:src|href)=\"(?!\")", text)
        assert door.ask("/hub/login", "POST", b"username=ada")[0] == 503
        # As the hub's unit leaves it when a start has failed.
        door.host.check_output("mkdir -p -m 755 /run/jupyterhub && touch /run/jupyterhub/failed")
        for languages, title in (("ru", "Хаб не может запуститься"), ("en", "The hub cannot start")):
            status, headers, text = door.ask("/hub/login", Accept_Language=languages)
            assert (status, headers["content-language"], headers["cache-control"]) == (503, languages, "no-store")
            assert title in text
    finally:
        door.host.check_output("rm -rf /run/jupyterhub")
        door.host.check_output("systemd-run --quiet --unit=stub-hub python3 /usr/local/lib/stub_hub.py")
        wait(lambda: door.ask("/headers")[0] == 200)
    for page in ("unavailable", "failed"):
        assert door.ask(f"/.campushub/{page}")[0] == 404


def test_logs_are_rotated_by_the_distribution(door: Door) -> None:
    assert door.host.run("logrotate --debug /etc/logrotate.d/nginx").rc == 0
    wait(lambda: "/headers" in door.host.file("/var/log/nginx/access.log").content_string)


def test_the_welcome_page_is_gone_and_other_sites_stay(door: Door) -> None:
    assert not door.host.file("/etc/nginx/sites-enabled/default").exists
    assert door.host.file("/etc/nginx/sites-available/default").exists
    door.host.check_output(
        "echo 'server { listen 8088; location / { return 200 other; } }' >/etc/nginx/sites-enabled/other"
    )
    try:
        door.apply().fine()
        assert door.host.check_output("curl -s http://127.0.0.1:8088/") == "other"
    finally:
        door.host.check_output("rm /etc/nginx/sites-enabled/other; systemctl reload nginx")


# --- with other settings ------------------------------------------------------------------------------------------


@pytest.mark.chaos
@pytest.mark.one_host
def test_additions_are_loaded_and_broken_ones_do_no_harm(door: Door) -> None:
    door.host.check_output("echo 'location = /about { return 200 us; }' >/etc/nginx/campushub.d/about.conf")
    assert door.apply().fine().changed > 0
    assert door.ask("/about")[::2] == (200, "us")
    # nginx has loaded everything now, so another run has nothing to do.
    assert door.apply().fine().changed == 0

    door.host.check_output("echo 'no_such_thing on;' >/etc/nginx/campushub.d/broken.conf")
    for settings in ({}, {"web_upload_limit": "65m"}):
        broken = door.apply(**settings)
        assert broken.code != 0
        assert "no_such_thing" in broken.output
        assert "broken.conf:1" in broken.output
        assert door.ask("/about")[::2] == (200, "us")
        assert "client_max_body_size 64m;" in door.host.file(SITE).content_string
    door.host.check_output("rm /etc/nginx/campushub.d/*.conf")


@pytest.mark.chaos
def test_a_site_that_nginx_refuses_does_not_replace_the_good_one(door: Door) -> None:
    before = door.host.file(SITE).content_string
    refused = door.apply(web_upstream_url="http://no-such-host.invalid:980")
    assert refused.code != 0
    assert "host not found in upstream" in refused.output
    assert door.host.file(SITE).content_string == before
    assert door.ask()[0] == 200


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_run_that_was_cut_off_is_finished_by_the_next(door: Door) -> None:
    door.apply().fine()
    # The new site is in its place, and the run ended before nginx was told.
    door.host.check_output(f"sed -i 's/client_max_body_size .*/client_max_body_size 1m;/' {SITE}")
    door.apply(web_upload_limit="1m").fine()
    assert door.ask("/upload", "PUT", Content_Length=str(2 * 1024 * 1024))[0] == 413


@pytest.mark.attack
@pytest.mark.one_host
def test_only_the_networks_of_the_site_come_in(door: Door) -> None:
    door.apply(web_access_networks=["192.0.2.0/24", "2001:db8::/32", "127.0.0.0/8"]).fine()
    assert door.ask()[0] == 403
    assert door.host.check_output("curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1/headers") == "200"
    with door.connect() as tls:
        network = tls.getsockname()[0].rsplit(".", 1)[0] + ".0/24"
    door.apply(web_access_networks=[network]).fine()
    assert door.ask()[0] == 200


@pytest.mark.one_host
def test_other_ports_and_addresses(door: Door) -> None:
    door.apply(web_http_port=8080, web_https_port=8443, web_addresses=["127.0.0.1"]).fine()
    with pytest.raises(ConnectionRefusedError):
        door.connect()
    location = door.host.check_output(
        f"curl -s -o /dev/null -w '%{{redirect_url}}' -H 'Host: {NAME}' http://127.0.0.1:8080/lab"
    )
    assert location == f"https://{NAME}:8443/lab"
    heard = json.loads(door.host.check_output("curl -sk https://localhost:8443/headers"))
    assert (heard["host"], heard["x-forwarded-port"]) == ("localhost:8443", "8443")


@pytest.mark.one_host
def test_an_own_certificate_is_served_and_replaced(door: Door, tmp_path: Path) -> None:
    first, first_key = own_pair(tmp_path, "first", NAME)
    second, second_key = own_pair(tmp_path, "second", NAME)
    own = {"web_tls_mode": "own", "web_server_aliases": []}
    run = door.apply(**own, web_tls_certificate=str(first), web_tls_key=str(first_key)).fine()
    assert first_key.read_text().splitlines()[1] not in run.output
    assert "CN = first" in subject(door.certificate()).replace("CN=", "CN = ")
    assert door.host.file(PEM).mode == 0o600
    # Whoever trusts the CA trusts the site: the chain is served with the certificate.
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with trusting.wrap_socket(socket.create_connection((door.address, 443), timeout=20), server_hostname=NAME):
        pass
    assert door.ask("/hub/login")[1]["strict-transport-security"] == "max-age=31536000"

    open_socket = door.websocket()
    door.apply(**own, web_tls_certificate=str(second), web_tls_key=str(second_key)).fine()
    assert "CN = second" in subject(door.certificate()).replace("CN=", "CN = ")
    assert open_socket.echo("not cut off") == "not cut off"
    assert door.apply(**own, web_tls_certificate=str(second), web_tls_key=str(second_key)).fine().changed == 0

    wrong = door.apply(**own, web_tls_certificate=str(first), web_tls_key=str(second_key))
    assert wrong.code != 0
    assert "does not belong to the first certificate" in wrong.output
    assert "CN = second" in subject(door.certificate()).replace("CN=", "CN = ")


@pytest.mark.one_host
def test_a_certificate_that_others_keep_on_the_host(door: Door, tmp_path: Path) -> None:
    def put(name: str) -> None:
        for source, target in zip(
            own_pair(tmp_path, name, NAME), ("/etc/ssl/site.pem", "/etc/ssl/site.key"), strict=True
        ):
            door.host.check_output(f"umask 077; printf %s {shlex.quote(source.read_text())} >{target}")

    settings = {
        "web_tls_mode": "own",
        "web_tls_files_on": "host",
        "web_tls_certificate": "/etc/ssl/site.pem",
        "web_tls_key": "/etc/ssl/site.key",
        "web_server_aliases": [],
    }
    missing = door.apply(**settings)
    assert missing.code != 0
    assert 'web_tls_certificate = "/etc/ssl/site.pem" cannot be read on the host. Is the path right?' in missing.output
    put("third")
    door.host.check_output("chmod 644 /etc/ssl/site.key")
    careless = door.apply(**settings)
    assert careless.code != 0
    assert 'web_tls_key = "/etc/ssl/site.key" can be read by others than root.' in careless.output
    door.host.check_output("chmod 600 /etc/ssl/site.key")
    door.apply(**settings).fine()
    assert "CN = third" in subject(door.certificate()).replace("CN=", "CN = ")
    assert door.apply(**settings).fine().changed == 0
    put("fourth")
    door.apply(**settings).fine()
    assert "CN = fourth" in subject(door.certificate()).replace("CN=", "CN = ")
    door.host.check_output(
        "rm /etc/ssl/site.pem /etc/ssl/site.key",
    )


@pytest.mark.one_host
def test_a_self_signed_certificate_follows_the_names_and_its_age(door: Door) -> None:
    door.apply().fine()
    before = subject(door.certificate())
    door.apply(web_server_aliases=["localhost", "127.0.0.1", "second.example.test", "::1"]).fine()
    named = subject(door.certificate())
    assert "second.example.test" in named
    assert "IP Address:0:0:0:0:0:0:0:1" in named
    assert named != before
    # One that expires within 30 days is made again.
    door.host.check_output(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 29 -keyout /tmp/k -out /tmp/c"
        f" -subj '/O=CampusHub self-signed/CN={NAME}' -addext subjectAltName=DNS:{NAME},DNS:localhost,IP:127.0.0.1"
        f" && cat /tmp/c /tmp/k >{PEM} && rm /tmp/c /tmp/k && systemctl reload nginx"
    )
    old = subject(door.certificate())
    door.apply().fine()
    assert subject(door.certificate()) != old
    assert door.apply().fine().changed == 0


@pytest.mark.attack
@pytest.mark.one_host
def test_users_have_names_that_lead_to_their_servers_alone(door: Door) -> None:
    hub, ada = f"https://{NAME}", f"ada.{NAME}"

    def ask(name: str, path: str) -> tuple[int, str]:
        status, fields, text = door.ask(path, sni=name, Host=name)
        return status, fields.get("location", text)

    door.apply(web_user_subdomains=True).fine()
    assert f"DNS:*.{NAME}" in subject(door.certificate())
    for name in (ada, f"u-jdoe--d50cd4b.{NAME}", f"xn--o1acf3d.{NAME}"):
        status, heard = ask(name, "/user/ada/headers")
        assert (status, json.loads(heard)["host"]) == (200, name)
    # No path of the hub, however it is written, but what its error pages are made of.
    for path in (
        "/hub/login?x=1",
        "/",
        "/hub",
        "/%68ub/login",
        "//hub/login",
        "/user/../hub/login",
        "/user/%2e%2e/hub",
        "/hub/..%2fuser/ada/headers",
    ):
        assert ask(ada, path) == (302, hub + path)
    assert ask(ada, "/hub/static/headers")[0] == 200
    assert ask("localhost", "/hub/login") == (302, f"{hub}/hub/login")
    assert ask(NAME, "/hub/login")[0] == 200
    assert ask(f"a.b.{NAME}", "/user/ada/headers")[0] == 421
    assert door.ask_plainly("/user/ada/", Host=ada)[1]["location"] == f"https://{ada}/user/ada/"
    status, headers, _ = door.ask("/user/ada/share", sni=ada, Host=ada)
    assert "service-worker-allowed" in headers
    assert "cross-origin-opener-policy" not in headers

    door.apply(web_user_subdomains=True, web_public_port=8443).fine()
    assert ask(ada, "/hub/login") == (302, f"{hub}:8443/hub/login")
    # Servers that were started before know their former names.
    door.apply().fine()
    assert ask(ada, "/user/ada/lab?x=1") == (302, f"{hub}/user/ada/lab?x=1")
    assert ask("localhost", "/hub/login")[0] == 200


@pytest.fixture
def acme_service(door: Door, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Settings for an ACME service on the host itself: pebble, which its authors made for tests."""
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pebble"
    if door.host.run(install).rc != 0:
        pytest.skip("the distribution has no package pebble, so there is no ACME service to ask")
    certificate, key = own_pair(tmp_path, "service", "localhost")
    configuration = {
        "pebble": {
            "listenAddress": "127.0.0.1:14000",
            "managementListenAddress": "127.0.0.1:15000",
            "certificate": "/etc/pebble/service.pem",
            "privateKey": "/etc/pebble/service.key",
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
    }
    files = {
        "service.pem": certificate.read_text(),
        "service.key": key.read_text(),
        "c.json": json.dumps(configuration),
    }
    door.host.check_output("mkdir -p /etc/pebble")
    for name, text in files.items():
        door.host.check_output(f"printf %s {shlex.quote(text)} >/etc/pebble/{name}")
    door.host.run("systemctl stop pebble pebble-dns; systemctl reset-failed pebble pebble-dns")
    # All names lead to this host.
    door.host.check_output(
        "systemd-run --quiet --unit=pebble-dns pebble-challtestsrv -defaultIPv4 127.0.0.1 -defaultIPv6 ''"
        " -dns01 127.0.0.1:8053 -management 127.0.0.1:8055 -http01 '' -https01 '' -tlsalpn01 ''"
    )
    door.host.check_output(
        "systemd-run --quiet --unit=pebble --setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_WFE_NONCEREJECT=0"
        " pebble -config /etc/pebble/c.json -dnsserver 127.0.0.1:8053"
    )
    wait(lambda: door.host.run("curl -sk https://localhost:14000/dir").rc == 0)
    yield {
        "web_tls_mode": "acme",
        "web_server_aliases": [],
        "web_acme_email": "ops@example.test",
        "web_acme_directory_url": "https://localhost:14000/dir",
        "web_acme_ca_certificate": str(tmp_path / "ca.pem"),
    }
    door.host.run("systemctl stop pebble pebble-dns; rm -rf /etc/pebble")


DNS_HOOK = """\
#!/bin/sh
case $1 in add) order=set-txt ;; remove) order=clear-txt ;; esac
curl -sf -d "{\\"host\\": \\"_acme-challenge.$CERTBOT_DOMAIN.\\", \\"value\\": \\"$CERTBOT_VALIDATION\\"}" http://127.0.0.1:8055/$order
"""


@pytest.mark.one_host
def test_a_certificate_from_an_acme_service(door: Door, acme_service: dict[str, Any], tmp_path: Path) -> None:
    door.apply(**acme_service).fine()
    first = subject(door.certificate())
    assert "Pebble Intermediate CA" in first
    assert NAME in first
    assert door.host.file(PEM).mode == 0o600
    assert "max-age=31536000" in door.ask("/hub/login")[1]["strict-transport-security"]
    assert door.apply(**acme_service).fine().changed == 0

    # The timer of the distribution renews it, and nginx serves the new one.
    assert door.host.service("certbot.timer").is_enabled
    assert door.host.service("certbot.timer").is_running
    variables = door.host.check_output("systemctl show --property=Environment --value certbot.service")
    assert variables == "REQUESTS_CA_BUNDLE=/etc/letsencrypt/campushub-ca.pem"
    door.host.check_output(
        "sed -i 's/^# renew_before_expiry.*/renew_before_expiry = 9999 days/' /etc/letsencrypt/renewal/campushub.conf"
        " && systemctl start certbot.service"
    )
    wait(lambda: subject(door.certificate()) != first)
    assert "Pebble Intermediate CA" in subject(door.certificate())

    door.apply(**{**acme_service, "web_server_aliases": ["second.example.test"]}).fine()
    assert "DNS:second.example.test" in subject(door.certificate())

    # For the names of users it asks DNS.
    hook = tmp_path / "hook"
    hook.write_text(DNS_HOOK)
    by_dns = {**acme_service, "web_user_subdomains": True, "web_acme_dns_hook": str(hook)}
    door.apply(**by_dns).fine()
    assert {f"DNS:*.{NAME}", f"DNS:{NAME}"} <= set(re.split(r"[,\s]+", subject(door.certificate())))
    assert door.host.file("/etc/letsencrypt/campushub-dns").mode == 0o700
    assert door.apply(**by_dns).fine().changed == 0
    by_dns_at_first = subject(door.certificate())
    door.host.check_output("systemctl start certbot.service")
    wait(lambda: subject(door.certificate()) != by_dns_at_first)
    door.apply(**{**acme_service, "web_server_aliases": ["second.example.test"]}).fine()
    assert not door.host.file("/etc/letsencrypt/campushub-dns").exists

    # Whatever else goes wrong with the service, the certificate that is there stays.
    door.host.check_output("systemctl stop pebble")
    failed = door.apply(**acme_service)
    assert failed.code != 0
    assert "DNS:second.example.test" in subject(door.certificate())

    # Who has another certificate leaves no renewal behind, which would fail twice a day.
    door.apply().fine()
    assert "Pebble" not in subject(door.certificate())
    assert door.host.run("find /etc/letsencrypt /etc/systemd/system/certbot* -path '*campushub*'").stdout == ""
    door.host.check_output("systemctl start certbot.service")
    assert door.apply().fine().changed == 0


def test_the_site_can_be_removed_and_comes_back(door: Door) -> None:
    door.apply().fine()
    assert door.apply(web_state="absent").fine().changed > 0
    for port in (80, 443):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((door.address, port), timeout=5)
    places = "/etc/nginx /etc/ssl/private /etc/letsencrypt /etc/systemd/system /usr/local/share/campushub"
    assert not door.host.run(f"find {places} -path '*campushub*'; ls /var/lib/campushub/acme").stdout
    assert not door.host.service("nginx").is_enabled
    assert door.apply(web_state="absent").fine().changed == 0
    door.apply().fine()
    assert door.ask()[0] == 200
    assert door.host.service("nginx").is_enabled
