"""Repositories are asked by processes that nobody waits for; servers and proxies here are the test's own."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.modules import cache_limits, cvmfs_client
from plugins.modules.cvmfs_client import (
    at_once,
    certificate_hash,
    check,
    distrust,
    fetched,
    fingerprint,
    mounted,
    read_something,
    server_and_keys,
)

CERTIFICATE = b"a certificate"
HASH = hashlib.sha1(CERTIFICATE).hexdigest()  # noqa: S324  # as repositories have it
MANIFEST = f"C{'0' * 40}\nB1234\nX{HASH}\nNsoftware.example.org\n--\n{'1' * 40}\nXsignature\n".encode()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one repository, and everything that it is asked for as a proxy; `answers` may be changed."""

    answers: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path[self.path.index("/cvmfs") :]
        self.send_response(200 if path in self.answers else 404)
        self.end_headers()
        self.wfile.write(self.answers.get(path, b""))

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[str]:
    base = "/cvmfs/software.example.org"
    Server.answers = {f"{base}/.cvmfspublished": MANIFEST, f"{base}/data/{HASH[:2]}/{HASH[2:]}X": CERTIFICATE}
    Server.asked = []
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
    assert mounted(table) == ["sft.cern.ch", "software.eessi.io"]


def test_a_file_is_found_below_directories(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(FileNotFoundError, match="no file among the first 3 entries"):
        read_something(tmp_path)
    (tmp_path / "a" / "b" / "file").write_text("x")
    assert read_something(tmp_path) == str(tmp_path / "a" / "b" / "file")


def test_a_manifest_names_its_certificate() -> None:
    assert certificate_hash(MANIFEST) == HASH
    with pytest.raises(ValueError, match="no manifest"):
        certificate_hash(b"<html>Xylophones for sale\n")


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


def test_a_list_of_certificates_is_signed_with_a_known_key(tmp_path: Path) -> None:
    def signed(expires: str) -> bytes:
        (tmp_path / "hash").write_text("1" * 40)
        command = ["openssl", "pkeyutl", "-sign", "-inkey", str(tmp_path / "key"), "-in", str(tmp_path / "hash")]
        signature = subprocess.run(command, check=True, capture_output=True).stdout
        return f"20260101000000\nE{expires}\nNsoftware.example.org\nAB:CD\n--\n{'1' * 40}\n".encode() + signature

    other, right = key_pair(tmp_path), key_pair(tmp_path)
    assert distrust(signed("29990101000000"), right) == ""
    assert distrust(signed("29990101000000"), other + right) == ""
    assert "none of the public keys" in distrust(signed("29990101000000"), other)
    assert "expired" in distrust(signed("20260102000000"), right)
    assert "no list of certificates" in distrust(b"<html>Please log in</html>", right)


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
