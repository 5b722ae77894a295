"""The package as it is installed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml
from traitlets.config import Config

import jupyter_displays
from jupyter_displays.app import DisplaysApp
from jupyter_displays.check import PROBES
from jupyter_displays.engines import ENGINES
from jupyter_displays.events import load_schema
from jupyter_displays.manager import DisplayManager
from jupyter_displays.protocols import FILTERS
from jupyter_displays.standalone import StandaloneDisplayApp

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


def test_built_files_have_no_path_of_the_machine():
    for part in ("labextension", "static"):
        for path in (Path(jupyter_displays.__file__).parent / part).rglob("*"):
            if path.is_file():
                assert str(PROJECT).encode() not in path.read_bytes(), path


def test_settings_of_both_are_in_one_file():
    names = {application().config_file_name for application in (DisplaysApp, StandaloneDisplayApp)}
    assert names == {"jupyter_displays_config"}


def test_settings_of_1_0_keep_their_names():
    """The classes as an application makes them from a configuration file."""
    old = {"DisplayManager": {"waiting": 2, "waiting_delay": 0.5, "prewarm": 0}, "DesktopApp": {"width": 900}}
    manager = DisplayManager(config=Config(old))
    assert (manager.prewarm, manager.prewarm_delay) == (2, 0.5)
    assert StandaloneDisplayApp(config=Config(old)).width == 900


def test_every_engine_and_protocol_is_described():
    """In openapi.yaml and in the schema of events; and each protocol has a filter and a check."""
    api = yaml.safe_load(Path(jupyter_displays.__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))
    event = load_schema()
    protocols = {engine.protocol for engine in ENGINES.values()}
    for display in (api["components"]["schemas"]["Display"], event["properties"]["display"]):
        assert set(display["properties"]["engine"]["enum"]) == set(ENGINES)
        assert set(display["properties"]["protocol"]["enum"]) == protocols == set(FILTERS) == set(PROBES)
