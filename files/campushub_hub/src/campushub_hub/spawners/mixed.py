"""
Servers on the hub's own host and in a cluster, on one hub.

JupyterHub makes the spawner of a server when somebody asks for it, and forgets it when the server has stopped. So the
choice between the spawners of a hub is made there: each server has one of them, a whole one, from its start to its end.

- A server that runs has that which started it. A number of a job is in the state of those in the cluster alone, also of
  those that a hub with another configuration has started.
- One that is to start gets that of the profile that was chosen; see `hand_over`.
"""

from __future__ import annotations

from typing import Any

from traitlets import Enum, Type
from traitlets.config import Config, SingletonConfigurable

from campushub_hub.profiles import LOCAL, SLURM

from .base import CampusSpawner
from .cluster import SlurmCluster
from .slurm import CampusSlurmSpawner
from .systemd import CampusSystemdSpawner


class SpawnerTable(SingletonConfigurable):
    """Which spawner starts servers where."""

    local_class = Type(
        CampusSystemdSpawner, CampusSpawner, config=True, help="The spawner of servers on the hub's own host."
    )
    default_run_on = Enum(
        [LOCAL, SLURM],
        LOCAL,
        config=True,
        help="Where servers run whose profile does not say it: on the hub's own host, or in a Slurm cluster.",
    )

    def spawner_class(self, where: str) -> type[CampusSpawner]:
        """Return the spawner of servers that run on the host, or in the cluster."""
        classes: dict[str, type[CampusSpawner]] = {LOCAL: self.local_class, SLURM: CampusSlurmSpawner}
        return classes[where]


class CampusMixedSpawner(CampusSlurmSpawner):
    """
    What JupyterHub takes for the class of its spawners. It makes those of the table, and there are none of itself.

    It is derived from one of them because JupyterHub wants a class that can start, stop and poll.
    """

    def __new__(cls, *, orm_spawner: Any, config: Config, **settings: Any) -> CampusSpawner:  # type: ignore[misc]
        """Return the spawner of a server."""
        table = SpawnerTable.instance(config=config)
        # Jobs of no server are looked for, whoever asks for what.
        SlurmCluster.instance(config=config).begin()
        where = table.default_run_on
        if orm_spawner.server:
            where = SLURM if (orm_spawner.state or {}).get("job") else LOCAL
        settings["default_run_on"] = table.default_run_on
        return table.spawner_class(where)(orm_spawner=orm_spawner, config=config, **settings)

    @staticmethod
    def hand_over(user: Any, server_name: str, where: str) -> None:
        """Have a server that does not run started there."""
        spawner, table = user.spawners[server_name], SpawnerTable.instance()
        if spawner.runs_on != where and not spawner.active:
            user.spawners[server_name] = user._new_spawner(  # noqa: SLF001 (JupyterHub does so itself after a failure)
                server_name, spawner_class=table.spawner_class(where), default_run_on=table.default_run_on
            )
