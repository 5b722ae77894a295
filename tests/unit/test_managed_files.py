"""What managed_files leaves on disk: ours, theirs, and nothing half written."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import result_cache
from ansible.module_utils.files import ValidationError, replace_block

from plugins.modules.managed_files import DIVERTED, Files, main
from tests.unit.modules import run_module

MARKER = "Managed by CampusHub"
OURS = f"# {MARKER}\nours\n"
DEFAULTS = {
    "state": "present",
    "content": None,
    "block": None,
    "replace": None,
    "by": "",
    "link": None,
    "mode": "0640",
    "owner": pwd.getpwuid(os.getuid()).pw_name,
    "group": grp.getgrgid(os.getgid()).gr_name,
    "validate": None,
    "secret": None,
}


def apply(path: Path, check: bool = False, **wanted: Any) -> Files:
    files = Files(MARKER, check)
    files.apply({**DEFAULTS, "path": str(path), **wanted})
    return files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc/app.conf"


@pytest.fixture
def theirs(path: Path) -> Path:
    path.parent.mkdir()
    path.write_text("theirs\n")
    return path


def test_a_file_is_written_once_with_its_mode(path: Path) -> None:
    assert apply(path, content=OURS).changed == [str(path)]
    assert (path.read_text(), path.stat().st_mode & 0o777) == (OURS, 0o640)
    assert apply(path, content=OURS).changed == []
    path.chmod(0o644)
    assert apply(path, content=OURS).changed == [str(path)]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_directory_gets_its_mode_and_keeps_its_files(tmp_path: Path) -> None:
    directory = tmp_path / "etc" / "config.d"
    wanted: dict[str, Any] = {"state": "directory", "mode": "0750"}
    assert apply(directory, check=True, **wanted).changed == [str(directory)]
    assert not directory.exists()
    assert apply(directory, **wanted).changed == [str(directory)]
    assert (directory.stat().st_mode & 0o777, directory.parent.stat().st_mode & 0o777) == (0o750, 0o755)
    (directory / "site.py").write_text("theirs\n")
    assert apply(directory, **wanted).changed == []
    directory.chmod(0o755)
    assert apply(directory, check=True, **wanted).changed == [str(directory)]
    assert apply(directory, **wanted).changed == [str(directory)]
    assert (directory.stat().st_mode & 0o777, (directory / "site.py").read_text()) == (0o750, "theirs\n")


def test_a_directory_of_a_group_that_is_yet_to_come_is_a_change(tmp_path: Path) -> None:
    assert apply(tmp_path, check=True, state="directory", mode="0750", group="nosuchgroup").changed == [str(tmp_path)]


def test_a_directory_that_nobody_could_enter_is_refused(tmp_path: Path) -> None:
    answer = run_module(main, files=[{"path": str(tmp_path), "state": "directory"}])
    assert answer["failed"]
    assert "nobody could enter a directory with mode 0644" in answer["msg"]


def test_a_file_of_somebody_else_comes_back_when_ours_goes(theirs: Path) -> None:
    apply(theirs, content=OURS)
    assert theirs.read_text() == OURS
    assert Path(f"{theirs}{DIVERTED}").read_text() == "theirs\n"
    apply(theirs, content=OURS + "more\n")
    assert apply(theirs, state="absent").changed
    assert theirs.read_text() == "theirs\n"
    assert apply(theirs, state="absent").changed == [], "theirs is not removed"
    assert theirs.read_text() == "theirs\n"


def test_a_part_of_a_file_of_somebody_else_is_replaced(theirs: Path) -> None:
    theirs.write_text("events {\n  connections 768;\n}\n")
    theirs.chmod(0o600)
    wanted: dict[str, Any] = {"replace": r"^(\s*connections )\d{3};", "by": r"\g<1>16384;"}
    assert apply(theirs, check=True, **wanted).changed == [str(theirs)]
    assert "768" in theirs.read_text()
    assert apply(theirs, **wanted).changed == [str(theirs)]
    assert (theirs.read_text(), theirs.stat().st_mode & 0o777) == ("events {\n  connections 16384;\n}\n", 0o600)
    assert apply(theirs, **wanted).changed == []


def test_no_part_of_a_missing_file_is_replaced(path: Path) -> None:
    assert apply(path, check=True, replace="a", by="b").changed == []
    with pytest.raises(ValidationError):
        apply(path, replace="a", by="b")
    assert not path.exists()


def test_a_file_is_set_aside_and_restored(theirs: Path) -> None:
    assert apply(theirs, state="diverted").changed
    assert not theirs.exists()
    assert apply(theirs, state="diverted").changed == []
    assert apply(theirs, state="undiverted").changed
    assert theirs.read_text() == "theirs\n"
    assert apply(theirs, state="undiverted").changed == []


def test_a_block_leaves_the_rest_of_the_file_alone(theirs: Path) -> None:
    theirs.chmod(0o600)
    apply(theirs, block="A=1")
    assert theirs.read_text() == f"theirs\n# BEGIN {MARKER}\nA=1\n# END {MARKER}\n"
    assert theirs.stat().st_mode & 0o777 == 0o600
    assert apply(theirs, block="A=1").changed == []
    apply(theirs, block="A=2\nB=3")
    assert "A=1" not in theirs.read_text()
    apply(theirs, block="", state="absent")
    assert theirs.read_text() == "theirs\n"


def test_a_block_begins_its_own_line_and_keeps_backslashes() -> None:
    text = replace_block("last line without an end", r"pattern=\1")
    assert text.startswith(f"last line without an end\n# BEGIN {MARKER}\npattern=\\1\n")
    assert replace_block(text, r"pattern=\2").count("BEGIN") == 1


def test_keys_of_a_user_stay_beside_those_that_are_listed() -> None:
    mine = "ssh-ed25519 MINE"
    first = replace_block(mine, "ssh-ed25519 A")
    assert first == f"{mine}\n# BEGIN Managed by CampusHub\nssh-ed25519 A\n# END Managed by CampusHub\n"
    assert replace_block(first, "ssh-ed25519 A") == first
    assert replace_block(first, "") == f"{mine}\n"
    assert replace_block("", "") == ""


def test_a_link_is_changed_and_only_our_own_is_removed(path: Path) -> None:
    apply(path, link="/one")
    apply(path, link="/two")
    assert path.readlink() == Path("/two")
    assert apply(path, link="/one", state="absent").changed == []
    assert apply(path, link="/two", state="absent").changed
    assert not path.is_symlink()


def test_check_mode_tells_and_writes_nothing(theirs: Path) -> None:
    cases: list[dict[str, Any]] = [{"content": OURS}, {"block": "A=1"}, {"link": "/one"}, {"state": "diverted"}]
    for wanted in cases:
        assert apply(theirs, check=True, **wanted).changed
        assert [entry.name for entry in theirs.parent.iterdir()] == ["app.conf"]
        assert theirs.read_text() == "theirs\n"


def test_a_text_that_its_program_refuses_leaves_the_old_one(path: Path) -> None:
    apply(path, content=OURS)
    with pytest.raises(ValidationError, match="grep"):
        apply(path, content=f"# {MARKER}\nbad\n", validate="grep -q good %s")
    assert path.read_text() == OURS
    assert [entry.name for entry in path.parent.iterdir()] == ["app.conf"]


def test_a_secret_is_in_no_difference(path: Path) -> None:
    for state in ("present", "absent"):
        done = apply(path, secret="s3cret " + OURS, state=state)
        assert path.exists() == (state == "present")
        assert done.changed
        assert "s3cret" not in str(done.differences)


def test_what_is_no_longer_listed_is_pruned(tmp_path: Path) -> None:
    for name in ("campushub-a.crt", "campushub-b.crt", "site.crt"):
        (tmp_path / name).write_text("x")
    files = Files(MARKER, check=False)
    files.prune([f"{tmp_path}/campushub-*.crt"], {f"{tmp_path}/campushub-a.crt"})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["campushub-a.crt", "site.crt"]


def test_of_files_among_others_only_ours_are_removed(tmp_path: Path) -> None:
    for name, text in (("ours", "# Managed by CampusHub\n"), ("kept", "# Managed by CampusHub\n"), ("theirs", "{}\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kernel.json").write_text(text)
    (tmp_path / "link").symlink_to(tmp_path / "ours" / "kernel.json")
    patterns = [str(tmp_path / "*" / "kernel.json"), str(tmp_path / "link")]
    keep = {str(tmp_path / "kept" / "kernel.json")}
    trial = Files("Managed by CampusHub", check=True)
    trial.prune_marked(patterns, keep)
    assert (tmp_path / "ours" / "kernel.json").exists()
    done = Files("Managed by CampusHub", check=False)
    done.prune_marked(patterns, keep)
    assert done.changed == trial.changed == [str(tmp_path / "link"), str(tmp_path / "ours" / "kernel.json")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "theirs"]


def test_a_link_takes_the_place_of_a_mount_once_it_is_gone(path: Path) -> None:
    """A mount is not looked at, for it may hang, and what it leaves behind is an empty directory."""
    if os.getuid() != 0:
        pytest.skip("only root can mount")
    path.mkdir(parents=True)
    subprocess.run(["mount", "--bind", path.parent, path], check=True)
    try:
        done = apply(path, link="/one")
        assert (done.changed, done.occupied) == ([], [str(path)])
    finally:
        subprocess.run(["umount", path], check=True)
    assert apply(path, link="/one").changed == [str(path)]
    assert path.readlink() == Path("/one")


def test_an_unlisted_link_is_removed_unless_it_was_changed(tmp_path: Path) -> None:
    record = tmp_path / "record"

    def pruned(check: bool = False, **wanted: str) -> list[str]:
        files = Files(MARKER, check)
        for name, target in wanted.items():
            files.apply({**DEFAULTS, "path": str(tmp_path / name), "link": target})
        files.prune_links(str(record), {str(tmp_path / name): target for name, target in wanted.items()})
        return files.changed

    pruned(a="/one", b="/two", c="/three")
    assert MARKER in record.read_text()
    assert pruned(a="/one", b="/two", c="/three") == []
    (tmp_path / "c").unlink()
    (tmp_path / "c").symlink_to("/theirs")
    assert pruned(check=True, a="/one") == pruned(a="/one") == [str(tmp_path / "b"), str(record)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "record"]
    assert pruned() == [str(tmp_path / "a"), str(record)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]
    assert pruned() == []


def test_only_what_lasts_and_is_right_is_remembered(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_cache, "DIRECTORY", str(tmp_path / "store"))
    own = {"owner": DEFAULTS["owner"], "group": DEFAULTS["group"]}
    file = {"path": str(path), "content": OURS, **own}

    def remembered(*files: dict[str, Any], **options: Any) -> bool:
        run_module(main, files=list(files), cache_key="asked", **options)
        return "asked" in result_cache.valid_results()

    assert not remembered(file)  # It has just been written.
    assert remembered(file, prune=[f"{path.parent}/*.old"]) == (own == {"owner": "root", "group": "root"})
    (path.parent / "app.old").touch()
    assert not result_cache.valid_results()
    # The number of a name may change, and what is removed shall leave nothing behind.
    assert not remembered({**file, "owner": "nobody"}, check=True)
    path.unlink()
    assert not remembered({"path": str(path), "state": "absent"})
