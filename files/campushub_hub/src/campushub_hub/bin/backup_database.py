#!/usr/bin/python3 -I
"""
Copy a hub's PostgreSQL database before a new version of the hub touches it. Runs before each start of the hub.

JupyterHub upgrades its database when it starts, and makes a copy of its own only of SQLite. Here pg_dump writes one
beside it the first time that an environment (the version behind /opt/campushub/hub) starts. A hub whose database
cannot be copied does not start: nothing is lost, and the journal says why.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

URL = Path("/etc/jupyterhub/database_url")
HUB = Path("/opt/campushub/hub")
STATE = Path("/var/lib/jupyterhub")


def connection(url: str) -> tuple[str, dict[str, str]]:
    """Return a database's address as PostgreSQL's programs take it, and their environment with its password."""
    parts = urlsplit(url)
    login, _, place = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    environment = {"PATH": "/usr/bin:/bin"}
    if password:
        # Other users of the host see arguments, but not this.
        environment["PGPASSWORD"] = unquote(password)
    address = f"postgresql://{user}{'@' if user else ''}{place}{parts.path}"
    return f"{address}?{parts.query}" if parts.query else address, environment


def main() -> int:
    """Copy the database unless this version of the hub has started before."""
    if not URL.exists():
        return 0
    url = URL.read_text().splitlines()[-1]
    stamp = STATE / "last-version"
    version = HUB.readlink().name
    if not url.startswith("postgresql") or (stamp.exists() and stamp.read_text() == version):
        return 0
    os.umask(0o077)
    dump = STATE / f"before-{version}.dump"
    address, environment = connection(url)
    done = subprocess.run(
        ["pg_dump", "--format=custom", f"--file={dump}.new", f"--dbname={address}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"The database could not be copied, so the hub does not touch it: {done.stderr.strip()}", file=sys.stderr)
        return 1
    Path(f"{dump}.new").replace(dump)
    stamp.write_text(version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
