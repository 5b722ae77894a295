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


def connection(url: str) -> dict[str, str]:
    """Return the environment in which PostgreSQL's programs reach a database; its password is in no argument."""
    parts = urlsplit(url)
    environment = {"PATH": "/usr/bin:/bin", "PGDATABASE": unquote(parts.path.lstrip("/"))}
    for name, value in (("PGHOST", parts.hostname), ("PGPORT", parts.port), ("PGUSER", parts.username)):
        if value:
            environment[name] = unquote(str(value))
    if parts.password:
        environment["PGPASSWORD"] = unquote(parts.password)
    return environment


def main() -> int:
    """Copy the database unless this version of the hub has started before."""
    if not URL.exists():
        return 0
    url = URL.read_text().splitlines()[-1]
    stamp = STATE / "last-version"
    version = os.readlink(HUB)
    if not url.startswith("postgresql") or (stamp.exists() and stamp.read_text() == version):
        return 0
    os.umask(0o077)
    dump = STATE / f"before-{version}.dump"
    done = subprocess.run(
        ["pg_dump", "--format=custom", f"--file={dump}.new"], env=connection(url), capture_output=True, text=True
    )
    if done.returncode:
        print(f"The database could not be copied, so the hub does not touch it: {done.stderr.strip()}", file=sys.stderr)
        return 1
    Path(f"{dump}.new").replace(dump)
    stamp.write_text(version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
