"""What the project reads of ansible-core's private parts is as it was, and is read in one file."""

from __future__ import annotations

import re
from pathlib import Path

from ansible.parsing.dataloader import DataLoader

from plugins.filter.source_file import source_file
from tests.settings.validation import ROOT

PRIVATE = re.compile(r"\bansible(\.\w+)*\._\w|\._(inventory|no_log_values|loader|variable_manager|hostvars)\b")


def test_a_value_of_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "all.yml"
    path.write_text("password: s3cret\nlimits: {memory: 1G}\n")
    read = DataLoader().load_from_file(str(path))
    assert source_file(read["password"]) == str(path)
    assert source_file(read["limits"]["memory"]) == str(path)


def test_a_value_of_no_file_names_none() -> None:
    assert source_file("s3cret") == ""
    assert source_file(None) == ""


def test_private_parts_of_ansible_are_read_in_one_file() -> None:
    readers = [path for path in ROOT.glob("plugins/**/*.py") if PRIVATE.search(path.read_text())]
    readers += [path for path in ROOT.glob("roles/*/*_plugins/*.py") if PRIVATE.search(path.read_text())]
    assert readers == [ROOT / "plugins" / "filter" / "source_file.py"]
