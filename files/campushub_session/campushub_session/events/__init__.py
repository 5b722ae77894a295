"""The events that open pages listen to; each has its schema beside this file."""

from __future__ import annotations

from pathlib import Path

USAGE = "https://schema.campushub.org/campushub_session/usage/v1"
OUT_OF_MEMORY = "https://schema.campushub.org/campushub_session/out_of_memory/v1"
SCHEMAS = [Path(__file__).with_name(name) for name in ("usage.yaml", "out_of_memory.yaml")]
