"""Names of tasks, plays and tests can be searched for in a log: a verb and a noun, and short."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.settings.validation import ROOT

PRONOUN = re.compile(r"\b(it|them|they|what|who|somebody|anybody)\b", re.IGNORECASE)
LONGEST_TEST_NAME = 60


def files(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in listed.stdout.split() if (path := ROOT / name).is_file() and not path.is_symlink()]


def names(content: object) -> Iterator[str]:
    """Names of plays, tasks and handlers in a file of Ansible, at any depth of blocks."""
    for entry in content if isinstance(content, list) else []:
        if isinstance(entry, dict):
            if isinstance(entry.get("name"), str):
                yield entry["name"]
            for key in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
                yield from names(entry.get(key))


def test_names_of_tasks_have_no_pronouns() -> None:
    patterns = ("site.yml", "playbooks/*.yml", "molecule/*.yml", "roles/*/tasks/*.yml", "roles/*/handlers/*.yml")
    found = [(path, name) for path in files(*patterns) for name in names(yaml.safe_load(path.read_text()))]
    assert len(found) > 200
    assert not [(str(path.relative_to(ROOT)), name) for path, name in found if PRONOUN.search(name)]


def test_names_of_tests_are_short() -> None:
    definition = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
    found = [(path, name) for path in files("*.py") for name in definition.findall(path.read_text())]
    assert len(found) > 500
    assert not [(str(path.relative_to(ROOT)), name) for path, name in found if len(name) > LONGEST_TEST_NAME]
