"""How users' servers are started."""

from .base import CampusSpawner, ServerStartError
from .mixed import CampusMixedSpawner
from .slurm import CampusSlurmSpawner
from .sudo import CampusSudoSpawner
from .systemd import CampusSystemdSpawner

__all__ = [
    "CampusMixedSpawner",
    "CampusSlurmSpawner",
    "CampusSpawner",
    "CampusSudoSpawner",
    "CampusSystemdSpawner",
    "ServerStartError",
]
