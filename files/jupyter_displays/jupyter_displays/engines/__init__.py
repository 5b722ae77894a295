"""The programs that make a display and speak a protocol for it."""

from __future__ import annotations

from .base import Engine, Screen
from .tigervnc import TigerVNCEngine
from .xpra import XpraEngine

__all__ = ["Engine", "Screen", "TigerVNCEngine", "XpraEngine"]
