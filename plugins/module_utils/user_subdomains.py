"""Whether the names of users, below that of the hub, lead anywhere."""

from __future__ import annotations

import subprocess

# A name as good as any user's.
EXAMPLE = "campushub-check"


def wildcard_problem(server_name: str, seconds: float) -> str:
    """Return what is wrong with the record `*` below a name, and the remedy; nothing if this cannot be found out."""
    # Browsers themselves know where these lead.
    if server_name == "localhost" or server_name.endswith(".localhost"):
        return ""
    name = f"{EXAMPLE}.{server_name}"
    try:
        found = subprocess.run(["getent", "--", "ahosts", name], capture_output=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return ""
    if found.returncode == 0:
        return ""
    return (
        f"web_user_subdomains = true gives each user a name below {server_name}, and {name} does not resolve here. "
        f"Add a record *.{server_name} to DNS that leads where {server_name} does, or set web_user_subdomains: false."
    )
