"""The hub's side of its proxy."""

from __future__ import annotations

from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy

# Where nobody listens, and none but root could: the proxy says at once that the server does not answer.
NOWHERE = "http://127.0.0.1:9"


class CampusProxy(ConfigurableHTTPProxy):  # type: ignore[misc]
    """Leads nobody to a server that is withheld, however often JupyterHub compares and restores the routes."""

    async def add_user(self, user: Any, server_name: str = "") -> None:
        """Lead browsers to a server, or nowhere."""
        spawner = user.spawners[server_name]
        if getattr(spawner, "withheld", False):
            await self.add_route(spawner.proxy_spec, NOWHERE, {"user": user.name, "server_name": server_name})
        else:
            await super().add_user(user, server_name)
