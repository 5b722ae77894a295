"""Locks are read as the hosts would read them, and the file says of itself what is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plugins.modules import wheelhouse

ROOT = Path(__file__).resolve().parents[2]


LOCK = """\
# a comment
always==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via something
old==2.0 ; python_full_version < '3.11' \\
    --hash=sha256:bb
new==3.0 ; python_full_version >= '3.12' and sys_platform == 'linux' \\
    --hash=sha256:cc
mac==4.0 ; sys_platform == 'darwin' \\
    --hash=sha256:dd
arm==5.0 ; platform_machine == 'aarch64' \\
    --hash=sha256:ee
"""


@pytest.mark.parametrize(
    ("version", "architecture", "names"),
    [
        ("3.10", "x86_64", ["always", "old"]),
        ("3.11", "x86_64", ["always"]),
        ("3.13", "x86_64", ["always", "new"]),
        ("3.13", "aarch64", ["always", "new", "arm"]),
    ],
)
def test_each_kind_of_host_gets_its_part_of_a_lock(version: str, architecture: str, names: list[str]) -> None:
    part = wheelhouse.wanted(LOCK, wheelhouse.markers(version, architecture))
    assert re.findall(r"^(\w+)==", part, re.MULTILINE) == names
    assert ";" not in part
    assert "--hash=sha256:ab" in part


def test_locks_of_the_roles_lose_nothing_that_is_for_all_hosts() -> None:
    for lock in ROOT.glob("roles/*/files/**/requirements.txt"):
        text = lock.read_text()
        unconditional = set(re.findall(r"^([A-Za-z0-9][^\s;]*==[^\s;]+) \\$", text, re.MULTILINE))
        assert unconditional
        part = wheelhouse.wanted(text, wheelhouse.markers("3.11", "x86_64"))
        assert unconditional <= set(re.findall(r"^([A-Za-z0-9][^\s;]*==[^\s;]+) \\$", part, re.MULTILINE))


def test_file_knows_what_it_was_made_from(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "a-1-py3-none-any.whl").write_text("x")
    about = {"key": "abc", "files": 1}
    wheelhouse.pack(tmp_path / "house.tar", content, about)
    assert wheelhouse.manifest(tmp_path / "house.tar") == about
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def test_other_files_are_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    assert wheelhouse.manifest(tmp_path / "text") == {}
    assert wheelhouse.manifest(tmp_path / "missing") == {}


def test_every_lock_of_a_role_is_collected() -> None:
    """A role with a new lock would leave hosts without internet half installed."""
    playbook = (ROOT / "playbooks/wheelhouse.yml").read_text()
    for lock in (*ROOT.glob("roles/*/files/**/requirements.txt"), *ROOT.glob("roles/*/files/**/package-lock.json")):
        if "node_modules" not in lock.parts:
            assert str(lock.relative_to(ROOT / "roles")) in playbook


def test_program_that_fails_is_quoted() -> None:
    with pytest.raises(wheelhouse.CollectError, match="No such file or directory"):
        wheelhouse.run("ls", "/nonexistent/place")
