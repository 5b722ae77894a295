"""The programs that make a display and speak a protocol for it. Everything finds them here, by name."""

from __future__ import annotations

from .base import Engine, Screen
from .tigervnc import TigerVNCEngine
from .xpra import XpraEngine

__all__ = ["ENGINES", "Engine", "Screen"]

# Where no engine is set, the first that can be used is taken.
ENGINES: dict[str, type[Engine]] = {kind.name: kind for kind in (XpraEngine, TigerVNCEngine)}
