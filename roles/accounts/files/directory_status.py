#!/usr/bin/python3 -I
# Managed by CampusHub
"""
Say of each server of the directory whether it answers, and if not, why: unreachable, silent, or a wrong certificate.

Asks as sssd does, but says what the certificate is refused for, which sssd does not everywhere. Ends with 0 if one
server is well, else with 1. It needs no rights and tells no secret, so everybody may run it.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SETTINGS = Path("/etc/campushub/directory.json")
SECONDS = 3.0
# LDAP messages (RFC 4511) that never differ: "go on with TLS", and "log me in as nobody".
START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
BIND = b"\x30\x0c\x02\x01\x02\x60\x07\x02\x01\x03\x04\x00\x80\x00"


def answer(connection: socket.socket) -> bytes:
    """Return the beginning of the server's answer; raise ConnectionError if it hangs up instead."""
    received = connection.recv(4096)
    if not received:
        raise ConnectionError("hung up")
    return received


def trouble(uri: str, start_tls: bool, ca_file: str, verify: bool) -> str:
    """Return why a server is of no use, or nothing if it is well."""
    parts = re.fullmatch(r"(ldaps?)://(\[[^]]+\]|[^:/]+)(?::(\d+))?/?", uri)
    if not parts:
        return "is no address"
    scheme, host, port = parts[1], parts[2].strip("[]"), int(parts[3] or (636 if parts[1] == "ldaps" else 389))
    context = ssl.create_default_context(cafile=ca_file or None)
    # sssd does not ask for it, and many universities' own authorities are older than the rule.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), SECONDS) as plain:
            connection: socket.socket = plain
            if scheme == "ldap" and start_tls:
                plain.sendall(START_TLS)
                answer(plain)
            if scheme == "ldaps" or start_tls:
                connection = context.wrap_socket(plain, server_hostname=host)
            connection.sendall(BIND)
            answer(connection)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is refused: {error.verify_message}"
    except TimeoutError:
        return f"no answer within {SECONDS:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def main() -> int:
    """Ask all servers at once."""
    settings = json.loads(SETTINGS.read_text())
    uris = settings["uris"]

    def ask(uri: str) -> str:
        return trouble(uri, settings["start_tls"], settings["ca_file"], settings["verify"])

    with ThreadPoolExecutor(max_workers=len(uris) or 1) as pool:
        found = list(pool.map(ask, uris))
    for uri, what in zip(uris, found, strict=True):
        print(f"{uri}: {what or 'ok'}")
    return 0 if "" in found or not uris else 1


if __name__ == "__main__":
    sys.exit(main())
