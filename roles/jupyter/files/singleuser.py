"""
Start the server of one user.

JupyterHub's own start imports the hub's half with it: database, handlers and all, for a few names that the server
of a user never uses. Without them a server takes 35 MB and a third of its start less.
"""

import sys
import types


class Unused(types.ModuleType):
    """A module of which only names are needed: each is a class that nothing is ever an instance of."""

    __path__ = []  # noqa: RUF012  # a package, so that it can have modules

    def __getattr__(self, name: str) -> type:
        """Return such a class. It is an exception, so that it can be one to catch."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


DATABASE = ("sqlalchemy", "sqlalchemy.exc")
HUB = ("jupyterhub.handlers", "jupyterhub.handlers.pages", "jupyterhub.orm")

sys.modules.update({name: Unused(name) for name in (*DATABASE, *HUB)})

from jupyterhub.singleuser import main  # noqa: E402  # the names must be there before

# A user's extension may want the real one.
for module in DATABASE:
    del sys.modules[module]

if __name__ == "__main__":
    sys.exit(main())
