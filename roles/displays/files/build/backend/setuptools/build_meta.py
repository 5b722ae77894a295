"""
Gives pip the metadata of a source distribution as they are in it.

pip asks for them even when it only downloads, and setuptools would run the source's own setup.py for the answer, which
for Xpra needs the headers of X.
"""

from __future__ import annotations

import email
import pathlib
from typing import Any


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: dict[str, Any] | None = None) -> str:  # noqa: ARG001
    """Write the metadata (PEP 517)."""
    text = pathlib.Path("PKG-INFO").read_text(encoding="utf-8")
    metadata = email.message_from_string(text)
    folder = pathlib.Path(metadata_directory, f"{metadata['Name']}-{metadata['Version']}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(text, encoding="utf-8")
    return folder.name
