"""The events that open pages listen to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_events import yaml

from ..engines import ENGINES

SCHEMA_ID = "https://schema.campushub.org/jupyter_displays/display/v1"


def load_schema() -> dict[str, Any]:
    """Return display.yaml with the names of the engines and of their protocols."""
    schema: dict[str, Any] = yaml.load(Path(__file__).with_name("display.yaml"))
    display = schema["properties"]["display"]["properties"]
    display["engine"]["enum"] = list(ENGINES)
    display["protocol"]["enum"] = sorted({engine.protocol for engine in ENGINES.values()})
    return schema
