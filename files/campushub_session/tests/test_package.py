"""The package as it is installed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import campushub_session

PROJECT = Path(__file__).resolve().parent.parent
SOURCES = ("package.json", "tsconfig.json", "yarn.lock", "scripts", "src", "style")
BUILT = Path(campushub_session.__file__).parent / "labextension"


def test_built_pages_are_as_new_as_their_sources():
    """After a change in them: npm run build."""
    paths = {path for name in SOURCES for path in [PROJECT / name, *(PROJECT / name).rglob("*")] if path.is_file()}
    total = hashlib.sha256()
    for name in sorted(str(path.relative_to(PROJECT)) for path in paths):
        total.update(name.encode() + b"\0" + (PROJECT / name).read_bytes() + b"\0")
    assert (BUILT / "built-from.txt").read_text(encoding="ascii").strip() == total.hexdigest()


def test_built_files_have_no_path_of_the_machine():
    for path in BUILT.rglob("*"):
        if path.is_file():
            assert str(PROJECT).encode() not in path.read_bytes(), path
