"""How users' servers are started."""

from .base import CampusSpawner, ServerStartError
from .sudo import CampusSudoSpawner
from .systemd import CampusSystemdSpawner

__all__ = ["CampusSpawner", "CampusSudoSpawner", "CampusSystemdSpawner", "ServerStartError"]
