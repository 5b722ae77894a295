"""Repositories are asked by processes that nobody waits for; servers and proxies here are the test's own."""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import http.server
import json
import os
import pwd
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.modules import cache_limits, cvmfs_client
from plugins.modules.cvmfs_client import (
    at_once,
    behind,
    check,
    distrust,
    fetched,
    fingerprint,
    manifest_field,
    mounted,
    parameters,
    read_something,
    recorded,
    server_and_keys,
)

from .conftest import Storage

CERTIFICATE = b"a certificate"
HASH = hashlib.sha1(CERTIFICATE).hexdigest()  # noqa: S324  # as repositories have it
MANIFEST = f"C{'0' * 40}\nB1234\nX{HASH}\nNsoftware.example.org\n--\n{'1' * 40}\nXsignature\n".encode()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one repository, and everything that it is asked for as a proxy; `answers` may be changed."""

    answers: dict[str, bytes] = {}  # noqa: RUF012
    headers_of_all: dict[str, str] = {}  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path[self.path.index("/cvmfs") :]
        self.send_response(200 if path in self.answers else 404)
        for name, value in self.headers_of_all.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.answers.get(path, b""))

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[str]:
    base = "/cvmfs/software.example.org"
    Server.answers = {f"{base}/.cvmfspublished": MANIFEST, f"{base}/data/{HASH[:2]}/{HASH[2:]}X": CERTIFICATE}
    Server.asked = []
    Server.headers_of_all = {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_work_that_hangs_is_left_behind(tmp_path: Path) -> None:
    pipe = tmp_path / "nobody-writes"
    os.mkfifo(pipe)
    begin = time.monotonic()
    results = at_once({"hung": pipe.read_text, "works": lambda: 7, "fails": (tmp_path / "gone").read_text}, 2)
    assert 1.9 < time.monotonic() - begin < 8
    assert results["hung"] is None
    assert results["works"] == {"answer": 7}
    assert "FileNotFoundError" in (results["fails"] or {})["problem"]


def test_the_table_of_mounts_is_read(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 0:21 / /proc rw - proc proc rw\n"
        "40 1 0:50 / /cvmfs rw shared:1 - autofs /etc/auto.cvmfs rw\n"
        "41 40 0:51 / /cvmfs/sft.cern.ch ro,nosuid shared:2 - fuse cvmfs2 ro\n"
        "42 40 0:52 / /cvmfs/software.eessi.io ro - fuse.cvmfs2 cvmfs2 ro\n"
        "43 40 0:53 / /cvmfs/idle.example.org rw - autofs systemd-1 rw\n"
        "44 1 0:54 / /home/a/cvmfs/x ro - fuse sshfs ro\n"
    )
    with table.open("ab") as file:
        # Of a user, whose name for it is no UTF-8 and has what Python takes for ends of lines and words.
        file.write(b"45 1 0:55 / /home/eve/\xff\x85\r\x0b/cvmfs/y rw - fuse x rw\n")
    assert mounted(table) == ["sft.cern.ch", "software.eessi.io"]


def test_a_file_is_found_below_directories(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(FileNotFoundError, match="no file among the first 3 entries"):
        read_something(tmp_path)
    (tmp_path / "a" / "b" / "file").write_text("x")
    assert read_something(tmp_path) == str(tmp_path / "a" / "b" / "file")


def test_a_manifest_names_its_certificate() -> None:
    assert manifest_field(MANIFEST, "X") == HASH
    with pytest.raises(ValueError, match="no manifest"):
        manifest_field(b"<html>Xylophones for sale\n", "X")


def test_an_object_is_fetched_directly_and_through_a_proxy(server: str) -> None:
    url = f"{server}/cvmfs/software.example.org"
    assert fetched(url, "", 5) == f"{url}/data/{HASH[:2]}/{HASH[2:]}X"
    assert Server.asked[0].startswith("/cvmfs/")
    Server.asked.clear()
    fetched("http://stratum1.example.org/cvmfs/software.example.org", server, 5)
    assert Server.asked[0] == "http://stratum1.example.org/cvmfs/software.example.org/.cvmfspublished"


def key_pair(directory: Path) -> str:
    """Make a key; return its public half."""
    subprocess.run(["openssl", "genrsa", "-out", directory / "key", "2048"], check=True, capture_output=True)
    command = ["openssl", "rsa", "-in", str(directory / "key"), "-pubout"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def signed_whitelist(directory: Path, expires: str = "29990101000000", fingerprint: str = "AB:CD") -> bytes:
    """Return a list of certificates that the key is vouching for."""
    (directory / "hash").write_text("1" * 40)
    command = ["openssl", "pkeyutl", "-sign", "-inkey", str(directory / "key"), "-in", str(directory / "hash")]
    signature = subprocess.run(command, check=True, capture_output=True).stdout
    return f"20260101000000\nE{expires}\nNsoftware.example.org\n{fingerprint}\n--\n{'1' * 40}\n".encode() + signature


def test_a_list_of_certificates_is_signed_with_a_known_key(tmp_path: Path) -> None:
    other, right = key_pair(tmp_path), key_pair(tmp_path)
    assert distrust(signed_whitelist(tmp_path), right) == ""
    assert distrust(signed_whitelist(tmp_path), other + right) == ""
    assert "none of the public keys" in distrust(signed_whitelist(tmp_path), other)
    assert "expired" in distrust(signed_whitelist(tmp_path, "20260102000000"), right)
    assert "no list of certificates" in distrust(b"<html>Please log in</html>", right)


class Publisher:
    """What a server of CVMFS 2.12 publishes: a certificate, a list that has it, and a manifest that it signs."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.keys = directory, key_pair(directory)
        key, certificate = str(directory / "publisher"), directory / "certificate"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=publisher", "-keyout", key]
        subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
        self.certificate = zlib.compress(certificate.read_bytes())
        command = ["openssl", "x509", "-noout", "-fingerprint", "-sha1", "-in", str(certificate)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.whitelist = signed_whitelist(directory, fingerprint=f"{said.strip().rpartition('=')[2]} # publisher")

    def manifest(self, revision: int = 7) -> bytes:
        name = hashlib.sha1(self.certificate, usedforsecurity=False).hexdigest()
        text = f"C{'0' * 40}\nD240\nS{revision}\nX{name}\nNsoftware.example.org\n".encode()
        number = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        (self.directory / "number").write_bytes(number)
        command = ["openssl", "dgst", "-sha1", "-sign", str(self.directory / "publisher")]
        signed = subprocess.run([*command, str(self.directory / "number")], check=True, capture_output=True).stdout
        return text + b"--\n" + number + b"\n" + signed

    def publish(self, manifest: bytes) -> None:
        name = manifest_field(manifest, "X")
        base = "/cvmfs/software.example.org"
        Server.answers |= {
            f"{base}/.cvmfspublished": manifest,
            f"{base}/.cvmfswhitelist": self.whitelist,
            f"{base}/data/{name[:2]}/{name[2:]}X": self.certificate,
        }


def test_a_repository_that_can_no_longer_be_updated_is_found(
    stand_in: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client goes on with what it has, so that its files tell nothing."""
    del stand_in
    publisher = Publisher(tmp_path)
    settings = {"server": f"{server}/cvmfs/software.example.org", "keys": publisher.keys}
    monkeypatch.setattr(cvmfs_client, "settings_of", lambda _: settings)
    good = publisher.manifest()

    def said() -> list[str]:
        return check(["software.example.org"], [server], False, 5)[1]

    publisher.publish(good)
    assert said() == []
    publisher.publish(good[:-1] + bytes([good[-1] ^ 1]))
    assert said() == ["software.example.org cannot be trusted: its manifest has a wrong signature."]
    publisher.publish(good.replace(b"\nS7\n", b"\nS8\n"))
    assert said() == ["software.example.org cannot be trusted: its manifest is not what was signed."]
    publisher.whitelist = signed_whitelist(tmp_path)
    publisher.publish(good)
    (problem,) = said()
    assert problem.endswith("its manifest is signed with a certificate that its list of certificates does not have.")


def test_a_client_that_stays_behind_its_server_is_found(server: str, tmp_path: Path) -> None:
    Publisher(tmp_path).publish(Publisher(tmp_path).manifest(revision=7))
    url = f"{server}/cvmfs/software.example.org"

    def said(revision: str, minutes: int) -> str:
        published = email.utils.format_datetime(dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes), usegmt=True)
        Server.headers_of_all = {"Last-Modified": published}
        return behind(url, [""], revision, 5)

    assert said("6", minutes=30) == "it stays at revision 6, and its server has 7 for 30 minutes"
    # Clients from 2.14 on say when it was published.
    assert behind(url, [""], "6", 5, "1795860000").startswith("it stays at revision 6 of 2026-11-28 10:00 UTC, and ")
    assert said("6", minutes=3) == "", "its time to live is four minutes"
    assert said("7", minutes=30) == ""
    Server.headers_of_all = {}
    assert behind(url, [""], "6", 5) == "", "nobody knows since when"


def test_a_repository_with_another_key_is_not_trusted(
    stand_in: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"server": f"{server}/cvmfs/software.example.org", "keys": key_pair(tmp_path)}
    Server.answers["/cvmfs/software.example.org/.cvmfswhitelist"] = (
        b"E29990101000000\n--\n" + b"1" * 40 + b"\nsignature"
    )
    monkeypatch.setattr(cvmfs_client, "settings_of", lambda _: settings)
    for direct in (False, True):
        _, problems, _ = check(["software.example.org"], [server], direct, 5)
        assert len(problems) == 1
        assert problems[0].startswith(
            "software.example.org cannot be trusted: it is signed with none of the public keys"
        )
    assert (stand_in / "software.example.org" / "file").exists()


def test_something_else_in_place_of_an_object_is_noticed(server: str) -> None:
    url = f"{server}/cvmfs/software.example.org"
    Server.answers[f"/cvmfs/software.example.org/data/{HASH[:2]}/{HASH[2:]}X"] = b"<html>Please log in</html>"
    with pytest.raises(ValueError, match="something else in place of"):
        fetched(url, "", 5)
    Server.answers["/cvmfs/software.example.org/.cvmfspublished"] = b"<html>Please log in</html>"
    with pytest.raises(ValueError, match="no manifest"):
        fetched(url, "", 5)


@pytest.fixture
def stand_in(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory stands in for the mounts, and the server above is the one of each repository."""
    (tmp_path / "software.example.org").mkdir()
    (tmp_path / "software.example.org" / "file").write_text("x")
    monkeypatch.setattr(cvmfs_client, "MOUNTS", tmp_path)
    monkeypatch.setattr(cvmfs_client.serves, "__defaults__", (tmp_path,))
    monkeypatch.setattr(cvmfs_client, "settings_of", lambda name: {"server": f"{server}/cvmfs/{name}", "keys": ""})
    return tmp_path


DEAD = "http://user:secret@127.0.0.1:1"


def test_a_repository_that_serves(stand_in: Path, server: str) -> None:
    found, problems, remarks = check(["software.example.org"], [server], False, 5)
    assert (problems, remarks) == ([], [])
    assert found["software.example.org"]["file"] == str(stand_in / "software.example.org" / "file")
    assert found["software.example.org"]["fetched_through"] == [server]


@pytest.mark.parametrize("least", ["root", "any user"])
def test_errors_of_the_setup_are_passed_on(
    stand_in: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: str
) -> None:
    """A stand-in for cvmfs_config: up to 2.13 it refuses to look as anybody but root, from 2.14 on it does not."""
    if os.getuid() != 0:
        pytest.skip("only root can act as another user")
    del stand_in
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)
    tool = tmp_path / "bin" / "cvmfs_config"
    tool.parent.mkdir()
    refusal = '[ "$(id -u)" = 0 ] || { echo "root privileges required"; exit 1; }\n' if least == "root" else ""
    tool.write_text(
        f"#!/bin/sh\n{refusal}"
        "echo 'Warning: failed to use Geo-API with s1.example.org'\n"
        'echo "Error: chunk directory /var/lib/cvmfs/shared/00 missing, says $(id -un)"\nexit 1\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.setattr(cvmfs_client, "CLIENT_USER", "nobody")
    _, problems, _ = check(["absent.example.org"], [server], False, 5)
    who = "root" if least == "root" else "nobody"
    assert [problem for problem in problems if "chksetup" in problem] == [
        f"cvmfs_config chksetup says: Error: chunk directory /var/lib/cvmfs/shared/00 missing, says {who}"
    ]


@pytest.mark.parametrize("version", ["2.13.1.0", "2.13.3.0", "2.12.0.0"])
@pytest.mark.usefixtures("stand_in")
def test_a_client_that_is_known_to_hang_is_named(server: str, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(cvmfs_client, "attribute", lambda _, name: version if name == "version" else "")
    _, problems, remarks = check(["software.example.org"], [server], False, 5)
    assert problems == []
    assert [remark.partition(",")[0] for remark in remarks] == (
        ["Client 2.13.1.0 runs"] if version == "2.13.1.0" else []
    )


@pytest.mark.usefixtures("stand_in")
def test_a_dead_proxy_is_found_though_files_are_there() -> None:
    found, problems, remarks = check(["software.example.org"], [DEAD], False, 5)
    assert found["software.example.org"]["served"]
    assert remarks == []
    assert len(problems) == 1
    assert problems[0].startswith("software.example.org cannot be fetched through http://…@127.0.0.1:1: ")
    assert "secret" not in problems[0]


@pytest.mark.usefixtures("stand_in")
def test_one_live_proxy_or_none_needed_makes_it_a_remark(server: str) -> None:
    for proxies, direct in (([DEAD, server], False), ([DEAD], True)):
        _, problems, remarks = check(["software.example.org"], proxies, direct, 5)
        assert problems == []
        assert len(remarks) == 1


def test_the_clients_own_words_are_passed_on(
    stand_in: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "bin" / "journalctl"
    journal.parent.mkdir()
    journal.write_text(
        "#!/bin/sh\n"
        "echo '(absent.example.org) proxy http://user:secret@squid:3128 is down'\n"
        "echo '(other.example.org) mounted'\n"
    )
    journal.chmod(0o755)
    monkeypatch.setenv("PATH", f"{journal.parent}:/usr/bin:/bin")
    del stand_in
    _, problems, _ = check(["absent.example.org"], [server], False, 5)
    assert problems[0].endswith("'. The client says: proxy http://…@squid:3128 is down")


def test_each_repository_is_reported(stand_in: Path, server: str) -> None:
    (stand_in / "hung.example.org").mkdir()
    os.mkfifo(stand_in / "hung.example.org" / "pipe")
    names = ["software.example.org", "absent.example.org"]
    found, problems, _ = check(names, [server], False, 5)
    assert found["software.example.org"]["served"]
    assert not found["absent.example.org"]["served"]
    assert problems[0].startswith("absent.example.org cannot be read: FileNotFoundError: ")
    assert problems[1].startswith("absent.example.org cannot be fetched through ")


def test_the_clients_tool_says_server_and_keys(tmp_path: Path) -> None:
    (tmp_path / "1.pub").write_text("one\n")
    (tmp_path / "2.pub").write_text("two\n")
    server = "CVMFS_SERVER_URL='http://a.example.org/cvmfs/@fqrn@;http://b.example.org/cvmfs/@fqrn@'    # from a file"
    for keys in (f"CVMFS_KEYS_DIR={tmp_path}    # from a file", f"CVMFS_PUBLIC_KEY={tmp_path}/1.pub:{tmp_path}/2.pub"):
        assert server_and_keys("software.example.org", f"CVMFS_TIMEOUT=5\n{keys}\n{server}\n") == {
            "server": "http://a.example.org/cvmfs/software.example.org",
            "keys": "one\ntwo\n",
        }
    with pytest.raises(ValueError, match="knows no server"):
        server_and_keys("software.example.org", "CVMFS_SERVER_URL=\n")


def test_settings_have_a_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "1.pub").write_text("one")
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    (tmp_path / "keys" / "1.pub").write_text("two")
    assert fingerprint(tmp_path) != first


def test_the_room_of_a_host(tmp_path: Path) -> None:
    there = os.statvfs(tmp_path)
    assert cache_limits.space_mb(str(tmp_path / "not" / "yet")) == there.f_blocks * there.f_frsize // 1_000_000


# Settings that mounted clients have

CONFIG = """\
CVMFS_REPOSITORY_NAME=software.example.org
CVMFS_CACHE_BASE=/var/lib/cvmfs    # from /etc/cvmfs/default.local
CVMFS_HTTP_PROXY='http://squid:3128;DIRECT'    # from /etc/cvmfs/default.local
CVMFS_QUOTA_LIMIT=3000    # from /etc/cvmfs/default.local
CVMFS_SERVER_URL=http://s/cvmfs/software.example.org    # from /etc/cvmfs/domain.d/example.org.conf
CVMFS_SHARED_CACHE=yes    # from /etc/cvmfs/default.local
CVMFS_TIMEOUT=
"""


def test_parameters_are_read_as_client_and_tool_print_them() -> None:
    said = CONFIG.replace("software.example.org    # from /etc/cvmfs/domain", "@fqrn@    # from /etc/cvmfs/domain")
    found = parameters(said, "software.example.org")
    assert found["CVMFS_HTTP_PROXY"] == ("http://squid:3128;DIRECT", "/etc/cvmfs/default.local")
    assert found["CVMFS_SERVER_URL"][0] == "http://s/cvmfs/software.example.org"
    assert "CVMFS_TIMEOUT" not in found


class Client:
    """
    Stand-ins for cvmfs_config and cvmfs_talk 2.12.0 and for the processes of a client.

    A mounted client keeps the settings that it was mounted with until it is reloaded. The process of the shared cache
    keeps its limit whatever clients say of it, until it is told another one. A reload that moves the cache ends it.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.place = directory, directory / "mounts" / "software.example.org"
        self.place.mkdir(parents=True)
        (directory / "etc").mkdir()
        self.is_used = self.is_mounted = True
        self.version = "2.12.0"
        self.say()
        self.program(
            "cvmfs_config", 'case $1 in showconfig) cat disk ;; reload) echo "$2" >>reloads; cp disk client ;; esac'
        )
        self.program(
            "cvmfs_talk",
            'case $3 in parameters) cat client ;; cache) [ -e old ] && { echo "unknown command"; exit; }; '
            'echo "$6" >>limits; echo OK ;; esac',
        )
        self.program("umount", '[ "$1" = --lazy ] || [ ! -e used ] || exit 32; echo "$*" >>unmounts')
        monkeypatch.setenv("PATH", f"{directory}/bin:{os.environ['PATH']}")
        monkeypatch.setattr(cvmfs_client, "MOUNTS", directory / "mounts")
        monkeypatch.setattr(cvmfs_client, "SETTINGS", directory / "etc")
        monkeypatch.setattr(cvmfs_client.fingerprint, "__defaults__", (directory / "etc",))
        monkeypatch.setattr(cvmfs_client, "STAMP", directory / "stamp")
        monkeypatch.setattr(cvmfs_client.recorded, "__defaults__", (directory / "stamp",))
        monkeypatch.setattr(cvmfs_client, "mounted", lambda: ["software.example.org"])
        (directory / "client").write_text(CONFIG)
        (directory / "used").touch()
        self.visitor = subprocess.Popen(["sleep", "300"], cwd=self.place)

    def program(self, name: str, script: str) -> None:
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ncd {self.directory}\n{script}\n")
        path.chmod(0o755)

    def say(self, **others: str) -> None:
        """Change what the disk says."""
        lines = [line for line in CONFIG.splitlines() if line.partition("=")[0].removeprefix("CVMFS_") not in others]
        lines += [f"CVMFS_{name}={value}    # from /etc/cvmfs/default.local" for name, value in others.items()]
        (self.directory / "disk").write_text("\n".join(lines) + "\n")
        (self.directory / "etc" / "default.local").write_text(str(others))

    def happened(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    def compare(self) -> tuple[bool, list[str]]:
        """Do what a run does first; return whether there is something to apply, and what waits."""
        compared = cvmfs_client.Comparison(5)
        stale = compared.is_stale()
        if not stale:
            compared.write(settings=compared.settings)
        return stale, compared.waits()

    def apply(self) -> list[str]:
        return cvmfs_client.apply(cvmfs_client.Comparison(5), [], False, 5)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    made = Client(tmp_path, monkeypatch)
    assert made.compare()[0], "nothing was applied yet"
    assert made.apply() == []
    (tmp_path / "reloads").unlink()
    assert made.compare() == (False, [])
    yield made
    with made.visitor:
        made.visitor.kill()


def test_a_repository_in_use_is_reloaded(client: Client) -> None:
    client.say(HTTP_PROXY="DIRECT")
    assert client.compare()[0]
    assert client.apply() == []
    assert client.happened("reloads") == ["software.example.org"]
    assert client.compare() == (False, [])


@pytest.mark.parametrize("name", ["CACHE_BASE", "SHARED_CACHE", "ALIEN_CACHE", "NFILES"])
def test_what_is_taken_only_when_mounted_waits(client: Client, name: str) -> None:
    """A reload would panic and end it for those who use it."""
    client.say(**{name: "/elsewhere"})
    assert client.compare()[0]
    (said,) = client.apply()
    assert said.startswith(
        f"software.example.org waits with CVMFS_{name}, which its client takes only when it is mounted"
    )
    assert said.endswith(f"until it is no longer used by {pwd.getpwuid(os.getuid()).pw_name}")
    assert client.happened("reloads") == []
    # It is not tried in each run, and each says so.
    assert client.compare() == (False, [said])
    # Put back, there is nothing to wait for.
    client.say()
    assert client.compare()[0]
    assert client.apply() == []
    assert client.compare() == (False, [])


def test_a_repository_that_nobody_uses_is_mounted_anew(client: Client) -> None:
    (client.directory / "used").unlink()
    client.say(CACHE_BASE="/elsewhere")
    assert client.apply() == []
    assert client.happened("unmounts") == [str(client.place)]


def test_a_client_is_asked_and_not_the_files(client: Client) -> None:
    """Somebody has mounted it while the files were different, and has put them back."""
    changed = CONFIG.replace("'http://squid:3128;DIRECT'", "DIRECT")
    (client.directory / "client").write_text(changed)
    assert client.compare()[0]
    assert client.apply() == []
    assert client.happened("reloads") == ["software.example.org"]
    assert client.compare() == (False, [])


def test_a_client_that_cannot_be_asked_is_not_reloaded(client: Client) -> None:
    """Its cache is elsewhere than the settings say, for a run was given up half-way."""
    client.program("cvmfs_talk", "echo 'Seems like CernVM-FS is not running' >&2; exit 1")
    assert client.compare()[0]
    (said,) = client.apply()
    assert "software.example.org waits with the place of its cache, " in said
    assert client.happened("reloads") == []


@pytest.fixture
def cache(client: Client) -> Iterator[str]:
    """A stand-in for the process of a shared cache, which has its limit on its command line; its directory."""
    base = client.directory / "cache"
    client.say(CACHE_BASE=str(base))
    (client.directory / "client").write_text((client.directory / "disk").read_text())
    client.apply()
    (client.directory / "__cachemgr__").write_text("import time; time.sleep(300)")
    words = ["cvmfs2", "__cachemgr__", f"{base}/shared", "5", "6", str(3000 << 20), "0", "1", "-1", "-1", ":"]
    with subprocess.Popen(words, executable=sys.executable, cwd=client.directory) as process:
        yield str(base)
        process.kill()


def test_a_shared_cache_gets_its_new_limit(client: Client, cache: str) -> None:
    """The client says the new one of itself at once; the process of the cache has the old one."""
    client.say(CACHE_BASE=cache, QUOTA_LIMIT="5000")
    (client.directory / "client").write_text((client.directory / "disk").read_text())
    assert client.compare()[0]
    assert client.apply() == []
    assert client.happened("limits") == ["5000"]
    assert client.compare() == (False, [])
    # It is known by the process, not by the setting.
    client.say(CACHE_BASE=cache, QUOTA_LIMIT="3000")
    assert client.apply() == []
    assert client.happened("limits") == ["5000", "3000"]


def test_a_shared_cache_of_an_old_client_keeps_its_limit(client: Client, cache: str) -> None:
    (client.directory / "old").touch()
    client.say(CACHE_BASE=cache, QUOTA_LIMIT="5000")
    (said,) = client.apply()
    assert said == (
        f"The shared cache {cache}/shared keeps its limit of 3000 megabytes in place of 5000 until no repository is "
        "used; a client from 2.12 on takes the new one at once"
    )
    assert client.compare() == (False, [said])


def test_a_dead_mount_is_unmounted(client: Client, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvmfs_client, "MOUNTS", storage.directory.parent)
    monkeypatch.setattr(cvmfs_client.serves, "__defaults__", (storage.directory.parent,))
    monkeypatch.setattr(cvmfs_client, "mounted", lambda: [storage.directory.name])
    storage.die()
    _, problems, _ = check([storage.directory.name], [], False, 5)
    assert problems[0] == (
        "homes cannot be read: its client has ended. The next run unmounts it, as umount --lazy does, and whoever "
        "looks mounts it again."
    )
    assert client.compare()[0]
    assert client.apply() == []
    assert client.happened("unmounts") == [f"--lazy {storage.directory}"]


def test_an_older_record_of_what_was_applied_is_none(tmp_path: Path) -> None:
    (tmp_path / "stamp").write_text("0123abcd")
    assert recorded(tmp_path / "stamp")["settings"] == ""
    (tmp_path / "stamp").write_text(json.dumps({"settings": "x"}))
    assert recorded(tmp_path / "stamp") == {"settings": "x", "acted": {}, "limits": {}}
