"""The hub's side of its proxy."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakValueDictionary

from jupyterhub.proxy import ConfigurableHTTPProxy

# Where nobody listens, and none but root could: the proxy says at once that the server does not answer.
NOWHERE = "http://127.0.0.1:9"


class CampusProxy(ConfigurableHTTPProxy):  # type: ignore[misc]
    """Leads nobody to a server that is withheld, however often JupyterHub compares and restores the routes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # They go with the last who waits.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, route: str) -> asyncio.Lock:
        """Return what changes of a route wait for: each is tried for up to 30 s, and could overtake a later one."""
        return self._turns.setdefault(route, asyncio.Lock())

    async def add_user(self, user: Any, server_name: str = "") -> None:
        """Lead browsers to a server, or nowhere."""
        spawner = user.spawners[server_name]
        async with self.turn(spawner.proxy_spec):
            # As it is now, not when this change was asked for.
            withheld = getattr(spawner, "withheld", False)
            spawner.proxy_withholds = None
            if withheld and spawner.pending in {None, "spawn"}:
                await self.add_route(spawner.proxy_spec, NOWHERE, {"user": user.name, "server_name": server_name})
            else:
                # Which refuses a server that is being stopped.
                await super().add_user(user, server_name)
            spawner.proxy_withholds = withheld

    async def check_routes(self, user_dict: Any, service_dict: Any, routes: Any = None) -> None:
        """Compare and restore the routes. That of a server that is withheld is right where nobody listens."""
        routes = routes or await self.get_all_routes()
        for spawner in [spawner for user in user_dict.values() for spawner in user.spawners.values() if spawner.ready]:
            if getattr(spawner, "withheld", False) and (route := routes.get(spawner.proxy_spec)):
                # JupyterHub expects the server.
                route["target"] = spawner.server.host if route["target"] == NOWHERE else NOWHERE
        await super().check_routes(user_dict, service_dict, routes)

    async def delete_route(self, routespec: str) -> None:
        """Lead nobody there any more, whatever was asked for before."""
        async with self.turn(routespec):
            await super().delete_route(routespec)
