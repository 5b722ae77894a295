"""The events that open pages listen to; each has its schema beside this file."""

from __future__ import annotations

from pathlib import Path

USAGE = "https://schema.campushub.org/campushub_session/usage/v1"
OUT_OF_MEMORY = "https://schema.campushub.org/campushub_session/out_of_memory/v1"
ANNOUNCEMENT = "https://schema.campushub.org/campushub_session/announcement/v1"
END = "https://schema.campushub.org/campushub_session/end/v1"
SCHEMAS = [Path(__file__).with_name(f"{name}.yaml") for name in ("usage", "out_of_memory", "announcement", "end")]
