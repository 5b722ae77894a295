"""The package as it is installed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jupyter_displays
from jupyter_displays.app import DisplaysApp
from jupyter_displays.desktop import DesktopApp

PROJECT = Path(__file__).resolve().parent.parent
SOURCES = ("package.json", "tsconfig.json", "yarn.lock", "schema", "scripts", "src", "style")


def test_built_pages_are_as_new_as_their_sources():
    """After a change in them: npm run build."""
    paths = {path for name in SOURCES for path in [PROJECT / name, *(PROJECT / name).rglob("*")] if path.is_file()}
    total = hashlib.sha256()
    for name in sorted(str(path.relative_to(PROJECT)) for path in paths):
        if not name.startswith("src/test/"):
            total.update(name.encode() + b"\0" + (PROJECT / name).read_bytes() + b"\0")
    built_from = Path(jupyter_displays.__file__).parent / "labextension" / "built-from.txt"
    assert built_from.read_text(encoding="ascii").strip() == total.hexdigest()


def test_built_files_have_no_path_of_the_machine_that_built_them():
    for part in ("labextension", "static"):
        for path in (Path(jupyter_displays.__file__).parent / part).rglob("*"):
            if path.is_file():
                assert str(PROJECT).encode() not in path.read_bytes(), path


def test_settings_of_both_are_in_one_file():
    names = {application().config_file_name for application in (DisplaysApp, DesktopApp)}
    assert names == {"jupyter_displays_config"}
