"""
What administrators of the hub may do.

JupyterHub's role `admin` opens every user's server, and its scopes cannot be set: `load_roles` with other ones ends the
hub. So this replaces the function that tells them, the one place where JupyterHub is changed; a test fails when another
JupyterHub does not read it there.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jupyterhub import roles

# With each of these an administrator can open other people's servers: at once, by a token of theirs, by a share, by
# sending the proxy's token to a program of their own, by a service that acts for people.
ACCESS_SCOPES = {"access:servers", "tokens", "shares", "proxy", "admin:services"}

jupyterhub_roles = roles.get_default_roles


def default_roles(access: bool) -> list[dict[str, Any]]:
    """Return JupyterHub's roles, in which administrators have access to other people's servers or not."""
    found: list[dict[str, Any]] = jupyterhub_roles()
    for role in found:
        if role["name"] == "admin" and not access:
            role["scopes"] = [scope for scope in role["scopes"] if scope not in ACCESS_SCOPES]
    return found


def set_access(access: bool) -> None:
    """Decide for the hub of this process whether administrators have access to other people's servers."""
    roles.get_default_roles = partial(default_roles, access)
