"""A repository is trusted by its key's fingerprint, or not at all; apt-get(8) is a stand-in here."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest

from plugins.modules import signed_repository
from plugins.modules.signed_repository import KeyFaultError, NoAnswerError, Repository, Silence, checked
from tests.unit.modules import run_module

# Made by GnuPG for this test, which also told the fingerprint.
KEY = b"""-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawJkpxYJKwYBBAHaRw8BAQdAgBaiCrpgNhjfAThAz+GK3z8Zn8x/7xhqNNo6
IOXnd0+0FFJlcG9zaXRvcnkgb2YgYSB0ZXN0iJAEExYIADgWIQT+wysZz3yPynCO
6YrGflOm35JhnQUCawJkpwIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRDG
flOm35JhnU7BAP9+3Gz6nz6lRhe4LIuUP6jBj2tdmZl57trHdslEuvxpLgEA3omW
PzbrRaPmyPmp/vUQdhaYqKrAb85JvjLVsK9y/AE=
=2RzR
-----END PGP PUBLIC KEY BLOCK-----
"""
FINGERPRINT = "FEC32B19CF7C8FCA708EE98AC67E53A6DF92619D"


def binary() -> bytes:
    body = [line for line in KEY.splitlines()[2:] if not line.startswith((b"=", b"-"))]
    return base64.b64decode(b"".join(body))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A stranger's key."""
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "A stranger", "ed25519", "sign"], check=True)
    exported = subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    return exported


def without_names(key: bytes) -> bytes:
    """Return the packet of the public key alone, which is the first and less than 192 bytes long."""
    return key[: 2 + key[1]]


@pytest.mark.parametrize("key", [KEY, binary()], ids=["text", "binary"])
def test_a_key_with_the_right_fingerprint_becomes_text(key: bytes) -> None:
    text = checked(key, "fec3 2b19 cf7c 8fca 708e  e98a c67e 53a6 df92 619d")
    assert text.startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    assert b"\n=2RzR\n" in text
    assert checked(text, FINGERPRINT) == text


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (KEY, f"has fingerprint {FINGERPRINT}, not {'0' * 40}"),
        (b"<html>Please log in</html>", "cannot be read: gpg: no valid OpenPGP data found."),
        (b"", "cannot be read: gpg: no valid OpenPGP data found."),
        (b"\x99", "cannot be read: "),
        (KEY.replace(b"mDME", b"m ME"), "cannot be read: "),
        (binary()[:40], "cannot be read: "),
    ],
    ids=["other", "page", "empty", "short", "damaged", "cut"],
)
def test_any_other_key_is_refused(key: bytes, problem: str) -> None:
    with pytest.raises(KeyFaultError) as caught:
        checked(key, "0" * 40)
    assert str(caught.value).startswith(problem)


def test_a_strangers_key_behind_the_right_one_is_refused(other: bytes) -> None:
    with pytest.raises(KeyFaultError, match=f"{FINGERPRINT}"):
        checked(binary() + other, FINGERPRINT)


def test_a_strangers_key_without_a_name_is_left_out(other: bytes) -> None:
    """GnuPG does not import such a key, so it is not compared, and must not reach apt."""
    assert checked(binary() + without_names(other), FINGERPRINT) == checked(KEY, FINGERPRINT)


def test_several_fingerprints_are_several_keys(other: bytes) -> None:
    with pytest.raises(KeyFaultError) as caught:
        checked(other, FINGERPRINT)
    stranger = str(caught.value).split()[2].rstrip(",")
    assert checked(binary() + other, f"{stranger},{FINGERPRINT.lower()}")
    with pytest.raises(KeyFaultError):
        checked(binary(), f"{FINGERPRINT},{stranger}")


def test_check_mode_needs_no_gpg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh host gets GnuPG from role base."""
    monkeypatch.setenv("PATH", str(tmp_path))
    key: dict[str, Any] = {"key": KEY.decode(), "fingerprint": FINGERPRINT, "name": "campushub-no-such"}
    wanted = {**key, "url": "https://apt.example.org", "suite": "bookworm"}
    assert run_module(signed_repository.main, check=True, **wanted)["changed"] is True
    assert "Apply role base first" in run_module(signed_repository.main, **wanted)["msg"]
    facts = run_module(signed_repository.main, state="checked", **key)["ansible_facts"]
    assert facts == {"ansible_signed_repository_campushub_no_such": {"problem": "", "silence": ""}}


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    return program


def answer(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_a_repository_is_written_once(apt: Path, tmp_path: Path) -> None:
    answer(apt, "exit 0")
    repository = Repository("example", tmp_path / "apt")
    text = repository.text("https://apt.example.org/", "bookworm", ["main"])
    assert not repository.is_there(text, FINGERPRINT)
    repository.put(text, KEY)
    assert repository.is_there(text, FINGERPRINT)
    assert not repository.is_there(text.replace("bookworm", "trixie"), FINGERPRINT)
    assert not repository.is_there(text, "0" * 40)
    assert "URIs: https://apt.example.org\n" in text
    assert f"Signed-By: {tmp_path}/apt/keyrings/example.asc" in text
    assert repository.remove()
    assert not repository.remove()


def test_a_repository_that_does_not_answer_leaves_what_was_there(apt: Path, tmp_path: Path) -> None:
    repository = Repository("example", tmp_path / "apt")
    old, new = (repository.text(f"https://{name}.example.org", "bookworm", ["main"]) for name in ("old", "new"))
    answer(apt, "exit 0")
    repository.put(old, KEY)
    answer(apt, "echo 'E: The repository is not signed.' >&2; exit 100")
    with pytest.raises(NoAnswerError, match=r"^E: The repository is not signed\.$"):
        repository.put(new, KEY + b"\n")
    assert repository.sources.read_text() == old
    assert repository.key.read_bytes() == KEY

    repository.remove()
    with pytest.raises(NoAnswerError):
        repository.put(new, KEY)
    assert not repository.sources.exists()
    assert not repository.key.exists()


def test_a_key_that_cannot_be_fetched_is_no_answer() -> None:
    with pytest.raises(NoAnswerError, match=r"^http://127\.0\.0\.1:1/key\.asc: "):
        signed_repository.fetch("http://127.0.0.1:1/key.asc")


def test_a_silent_repository_is_not_asked_again_for_a_while(tmp_path: Path) -> None:
    silence = Silence("example", "https://apt.example.org bookworm", tmp_path / "cache")
    assert not silence.last(3600)
    silence.remember("Connection timed out")
    assert silence.last(3600) == "Connection timed out"
    assert not silence.last(0)
    assert not Silence("example", "https://mirror.example.org bookworm", tmp_path / "cache").last(3600)
    silence.forget()
    silence.forget()
    assert not silence.last(3600)


def test_dnf_gets_a_repository_of_its_own(apt: Path, tmp_path: Path) -> None:
    answer(apt.with_name("dnf"), 'echo "$@" > "$(dirname "$0")/asked"')
    repository = signed_repository.YumRepository("example", tmp_path / "etc")
    (tmp_path / "etc" / "yum.repos.d").mkdir(parents=True)
    url = "https://yum.example.org/EL/$releasever/$basearch"
    text = repository.text(url, "", [])
    repository.put(text, KEY)
    assert repository.is_there(text, FINGERPRINT)
    lines = (tmp_path / "etc/yum.repos.d/example.repo").read_text().splitlines()
    assert {"[example]", f"baseurl={url}", "gpgcheck=1"} <= set(lines)
    assert f"gpgkey=file://{tmp_path}/etc/pki/rpm-gpg/RPM-GPG-KEY-example" in lines
    assert (apt.parent / "asked").read_text() == "makecache --quiet --disablerepo=* --enablerepo=example\n"


def test_a_key_is_looked_at_before_anything_is_changed(tmp_path: Path) -> None:
    repository = Repository("example", tmp_path / "apt")
    right = signed_repository.key_findings(repository, KEY.decode(), FINGERPRINT)
    assert right == {"problem": "", "silence": ""}
    wrong = signed_repository.key_findings(repository, KEY.decode(), "0" * 40)
    assert wrong == {"problem": f"has fingerprint {FINGERPRINT}, not {'0' * 40}", "silence": ""}
    away = signed_repository.key_findings(repository, "http://127.0.0.1:1/key.asc", "0" * 40)
    assert away["problem"] == ""
    assert away["silence"].startswith("http://127.0.0.1:1/key.asc: ")
    assert not (tmp_path / "apt").exists()
