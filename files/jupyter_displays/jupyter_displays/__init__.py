"""Linux desktops and applications as displays beside the notebooks of Jupyter, or instead of them."""

from __future__ import annotations

__version__ = "1.0.0"


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    from .app import DisplaysApp

    return [{"module": "jupyter_displays", "app": DisplaysApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "jupyter-displays"}]
