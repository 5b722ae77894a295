"""What JupyterHub keeps to itself and this package reads, writes or replaces: a release that changes it fails here."""

from __future__ import annotations

import inspect

import pytest
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.spawner import Spawner
from jupyterhub.user import User


@pytest.mark.parametrize("name", ["_spawn_future", "_stop_future", "_stop_pending"])
def test_spawners_keep_what_is_under_way(name: str) -> None:
    # A spawner gets the second with its first stop.
    assert getattr(Spawner, name, None) in (None, False)
    setters = inspect.getsource(User) + inspect.getsource(BaseHandler)
    assert f"spawner.{name} = " in setters, "nobody sets it"


def test_users_make_their_spawners_by_one_method() -> None:
    assert list(inspect.signature(User._new_spawner).parameters)[:2] == ["self", "server_name"]  # noqa: SLF001
