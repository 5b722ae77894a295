"""
Start the server of one user.

JupyterHub's own start imports the hub's half with it: database, handlers and all, for a few names that the server
of a user never uses. It also imports an HTTP client, aiohttp, for three kinds of requests to the hub, which Tornado
can make as well and is there anyway. Without all that a server takes 40 MB and half of its start less.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING

from jupyter_core.application import JupyterApp
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

if TYPE_CHECKING:
    from ssl import SSLContext


class Unused(types.ModuleType):
    """A module of which only names are needed: each is a class that nothing is ever an instance of."""

    __path__ = []  # noqa: RUF012  # a package, so that it can have modules

    def __getattr__(self, name: str) -> type:
        """Return such a class. It is an exception, so that it can be one to catch."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


class Response:
    """As much of aiohttp's response as JupyterHub looks at."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status, self.headers, self._body = response.code, response.headers, response.body

    async def text(self) -> str:
        """Return the body."""
        return self._body.decode()


async def fetch(
    url: str,
    *,
    method: str = "GET",
    raise_for_status: bool = True,
    headers: dict[str, str] | None = None,
    data: str | bytes | None = None,
    ssl: SSLContext | None = None,
) -> Response:
    """Make a request to the hub, as `jupyterhub.httpclient.fetch` does."""
    request = HTTPRequest(url, method=method, headers=headers, body=data, ssl_options=ssl, request_timeout=60)
    return Response(await AsyncHTTPClient().fetch(request, raise_error=raise_for_status))


CLIENT = types.ModuleType("jupyterhub.httpclient")
vars(CLIENT)["fetch"] = fetch

LIBRARIES = ("sqlalchemy", "sqlalchemy.exc", "aiohttp")
HUB = ("jupyterhub.handlers", "jupyterhub.handlers.pages", "jupyterhub.orm")

sys.modules.update({name: Unused(name) for name in (*LIBRARIES, *HUB)}, **{CLIENT.__name__: CLIENT})

from jupyterhub.singleuser import main  # noqa: E402  # the names must be there before

# A user's extension may want the real ones.
for module in LIBRARIES:
    del sys.modules[module]

# Looks for settings of IPython 3, of 2015, and notes in the home that it did. A full home would end the server there.
JupyterApp.migrate_config = lambda self: None  # type: ignore[method-assign]  # noqa: ARG005

if __name__ == "__main__":
    sys.exit(main())
