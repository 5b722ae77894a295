"""Filters and tests for files that the administrator keeps on the controller."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def pem_text(entry: str) -> str:
    """Return the text of an entry, which is a PEM text itself or the absolute path of a file."""
    return Path(entry).read_text(encoding="ascii", errors="replace") if entry.startswith("/") else entry


def base_certificate_files(entries: Iterable[str], directory: str) -> list[dict[str, Any]]:
    """
    Return one file for each certificate, named after its content.

    update-ca-certificates takes one certificate a file only, and a name by content neither changes with the
    order nor appears twice.
    """
    files = {}
    for entry in entries:
        for certificate in PEM.findall(pem_text(entry)):
            text = "\n".join(line.strip() for line in certificate.splitlines()) + "\n"
            name = f"{directory}/campushub-{hashlib.sha256(text.encode()).hexdigest()[:16]}.crt"
            files[name] = {"path": name, "content": text}
    return list(files.values())


@cache
def base_file_key(path: str) -> str:
    """Return a short name for the content of a file on the controller, which stays the same while a playbook runs."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"base_certificate_files": base_certificate_files, "base_file_key": base_file_key}
