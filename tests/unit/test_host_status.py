"""What the status page says, of real servers and certificates on this machine."""

from __future__ import annotations

import datetime as dt
import http.server
import pwd
import ssl
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.modules import host_status

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with the status in the path, but only to those who ask for the right name."""

    def do_GET(self) -> None:
        right = self.headers["Host"].startswith("jupyter.example.org")
        self.send_response_only(int(self.path[1:]) if right else 421)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN=jupyter.example.org"
    files = ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


def test_this_host_is_asked_for_the_name_that_people_use(certificate: Path) -> None:
    with serving(certificate) as port:
        _, fault = host_status.answer(f"https://jupyter.example.org:{port}/200", "127.0.0.1", 2)
    assert fault == ""


def test_wrong_answer() -> None:
    with serving() as port:
        _, fault = host_status.answer(f"http://jupyter.example.org:{port}/503", "127.0.0.1", 2)
    assert fault == "answers 503 Service Unavailable"


def test_no_answer() -> None:
    with serving() as port:
        pass
    _, fault = host_status.answer(f"http://jupyter.example.org:{port}/200", "127.0.0.1", 2)
    assert fault == "does not answer (Connection refused)"


def test_end_of_the_certificate_that_is_served(certificate: Path) -> None:
    with serving(certificate) as port:
        served = host_status.served_certificate("jupyter.example.org", "127.0.0.1", port)
    end = host_status.certificate_end(served)
    assert end
    assert dt.timedelta(days=2) < end - dt.datetime.now(dt.timezone.utc) < dt.timedelta(days=3, minutes=1)


def test_no_certificate() -> None:
    with serving() as port:
        served = host_status.served_certificate("jupyter.example.org", "127.0.0.1", port)
    assert host_status.certificate_end(served) is None


def test_names_of_users_need_dns_and_a_wildcard(certificate: Path) -> None:
    """Names of .invalid resolve nowhere; where those below localhost lead is the browser's business."""
    served = certificate.read_text()
    faults = host_status.subdomain_faults(served, "jupyter.invalid", 5)
    assert len(faults) == 2
    assert "campushub-check.jupyter.invalid does not resolve here. Add a record *.jupyter.invalid to DNS" in faults[0]
    assert faults[1].startswith("The certificate of jupyter.invalid is not for *.jupyter.invalid")
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,DNS:*.localhost,DNS:*.hub.localhost", "-keyout", "/dev/null"]
    covering = subprocess.run(["openssl", *request.split(), *names], check=True, capture_output=True, text=True).stdout
    for name in ("hub.localhost", "localhost"):
        assert host_status.subdomain_faults(covering, name, 5) == []
    assert len(host_status.subdomain_faults(covering, "other.localhost", 5)) == 1


def test_environments_are_read_without_starting_anything(tmp_path: Path) -> None:
    for version in ("user-old", "user-new"):
        (tmp_path / version / "lib/python3.11/site-packages").mkdir(parents=True)
    for name in ("jupyterlab-4.4.1", "jupyterlab_server-2.27", "ipykernel-6.29"):
        (tmp_path / f"user-new/lib/python3.11/site-packages/{name}.dist-info").mkdir()
    (tmp_path / "user").symlink_to("user-new")
    assert host_status.environment_lines(tmp_path) == [
        ("user env", "jupyterlab 4.4.1, ipykernel 6.29 (user-new, 1 older kept)")
    ]


@pytest.mark.parametrize(
    ("recorded", "here", "lines"),
    [
        ("0.6.0\n", "0.6.0", [("campushub", "0.6.0")]),
        ("0.6.0\n", "0.7.0", [("campushub", "0.6.0; the controller has 0.7.0")]),
        (None, "0.6.0", []),
    ],
)
def test_version_of_the_last_installation(
    recorded: str | None, here: str, lines: list[tuple[str, str]], tmp_path: Path
) -> None:
    record = tmp_path / "version"
    if recorded:
        record.write_text(recorded)
    assert host_status.version_lines(host_status.installed_version(str(record)), here) == lines


def test_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**9, "total": 10**11}))
    lines, faults = host_status.disk_lines([str(tmp_path), str(tmp_path), "/nonexistent"])
    assert lines == [("disk", f"1.0 GB of 100.0 GB free on {tmp_path}")]
    assert faults == [f"The disk of {tmp_path} is nearly full: 1.0 GB of 100.0 GB are free."]


@pytest.mark.parametrize(
    ("output", "state", "fault"),
    [
        ("LoadState=loaded\nActiveState=active\nActiveEnterTimestamp=Sat\nNRestarts=0", "active since Sat", []),
        (
            "LoadState=loaded\nActiveState=failed\nNRestarts=5",
            "failed, restarted 5 times by systemd",
            ["hub.service is failed. Its journal says why: journalctl -u hub.service -n 50"],
        ),
        (
            "LoadState=not-found\nActiveState=inactive",
            "not installed",
            ["hub.service is not installed. Install it first: ./campushub install -i INVENTORY"],
        ),
    ],
)
def test_unit(output: str, state: str, fault: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_status, "run", lambda *command: output if "hub.service" in command else "")
    nothing = {
        "answers": {},
        "server_name": "",
        "environments": "/nonexistent",
        "displays_check": "/nonexistent",
        "displays_engine": "auto",
        "maintenance": "/nonexistent",
        "disks": [],
    }
    found = host_status.look({"units": ["hub.service"], **nothing, "version": "", "version_file": "/nonexistent"})
    assert found[0][0] == ("hub", state)
    assert found[1] == fault


def test_xpra_that_does_not_work_is_a_fault_where_it_is_wanted(tmp_path: Path) -> None:
    file = tmp_path / "displays-check.json"
    assert host_status.display_line(file, "auto") == ([], [])
    file.write_text('{"ok": true, "tested": true, "version": "6.5.5", "reason": ""}')
    assert host_status.display_line(file, "xpra") == ([("displays", "Xpra 6.5.5")], [])
    file.write_text('{"ok": true, "tested": false, "version": "6.6", "reason": ""}')
    assert "was not tested" in host_status.display_line(file, "xpra")[0][0][1]
    file.write_text('{"ok": false, "tested": false, "version": "6.6", "reason": "no picture came within 20 s."}')
    lines, faults = host_status.display_line(file, "xpra")
    assert lines == [("displays", "TigerVNC, for Xpra 6.6 failed its check")]
    assert faults == ["Xpra 6.6 does not work, so TigerVNC makes the displays: no picture came within 20 s."]
    line = "TigerVNC, for Xpra 6.6 failed its check: no picture came within 20 s"
    assert host_status.display_line(file, "auto") == ([("displays", line)], [])


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_no_maintenance_has_no_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "maintenance.json").write_text(content)
    assert host_status.maintenance_lines(tmp_path / "maintenance.json") == []


def test_maintenance_that_was_forgotten_is_told(tmp_path: Path) -> None:
    (tmp_path / "maintenance.json").write_text('{"from": 1796058000, "when": "2026-11-30 18:00 CET", "stop": true}')
    ((label, text),) = host_status.maintenance_lines(tmp_path / "maintenance.json")
    assert label == "maintenance"
    assert text.startswith("from 2026-11-30 18:00 CET on, until ./campushub maintenance off")


def test_accounts_that_share_a_uid_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that the hub has refused; who has another UID by now is no news."""
    entries = {
        name: pwd.struct_passwd((name, "x", uid, 1, "", "/", "")) for name, uid in {"a": 7, "b": 7, "c": 8}.items()
    }
    monkeypatch.setattr(pwd, "getpwnam", entries.__getitem__)
    monkeypatch.setattr(pwd, "getpwuid", {7: entries["a"], 8: entries["c"]}.__getitem__)
    journal = "".join(f"[E 2026] User {name} is refused: UID 7 is that of a\n" for name in ("b", "b", "c", "gone"))
    told = [("accounts", "b cannot log in: UID 7 is that of a. Give one of them another.")]
    assert host_status.twin_lines(journal) == told
    assert host_status.twin_lines("") == []
