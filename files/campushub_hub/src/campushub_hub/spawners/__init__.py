"""How users' servers are started."""

from .base import CampusSpawner, ServerStartError
from .slurm import CampusSlurmSpawner
from .sudo import CampusSudoSpawner
from .systemd import CampusSystemdSpawner

__all__ = ["CampusSlurmSpawner", "CampusSpawner", "CampusSudoSpawner", "CampusSystemdSpawner", "ServerStartError"]
