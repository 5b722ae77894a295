"""What users use of their limits, and why a kernel ended, in the pages of Jupyter."""

from __future__ import annotations

__version__ = "1.0.0"


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    from .app import SessionApp

    return [{"module": "campushub_session", "app": SessionApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "campushub-session"}]
