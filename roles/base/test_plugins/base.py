"""Tests of settings that name something on the controller."""

from __future__ import annotations

import re
import tarfile
import zoneinfo
from collections.abc import Callable
from pathlib import Path

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def base_certificate(entry: str) -> bool:
    """Whether an entry holds certificates, and each of them can be read."""
    # Here, for it takes long to load, and Ansible loads this file whether a certificate is there to be read or not.
    from cryptography import x509

    try:
        text = Path(entry).read_text(encoding="ascii", errors="replace") if entry.startswith("/") else entry
        certificates = PEM.findall(text)
        for certificate in certificates:
            x509.load_pem_x509_certificate(certificate.encode())
    except (OSError, ValueError):
        return False
    return bool(certificates)


def base_timezone(name: str) -> bool:
    """Whether the tz database has a zone of this name; a controller without the database believes any."""
    try:
        zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        return not zoneinfo.available_timezones()
    return True


def base_tar(path: str) -> bool:
    """Whether a path leads to a tar file."""
    try:
        return tarfile.is_tarfile(path)
    except OSError:
        return False


class TestModule:
    """What Ansible asks for."""

    def tests(self) -> dict[str, Callable[..., bool]]:
        """Return the tests by name."""
        return {"base_certificate": base_certificate, "base_timezone": base_timezone, "base_tar": base_tar}
