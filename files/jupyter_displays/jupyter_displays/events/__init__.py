"""The events that open pages listen to."""

from __future__ import annotations

from pathlib import Path

SCHEMA_ID = "https://schema.campushub.org/jupyter_displays/display/v1"
SCHEMA_FILE = Path(__file__).with_name("display.yaml")
