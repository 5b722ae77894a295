"""JupyterHub's configuration from one document, /etc/jupyterhub/settings.json, that role `jupyterhub` writes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).resolve().parent
SITE_DIRECTORY = Path("/etc/jupyterhub")
STATE_DIRECTORY = Path("/var/lib/jupyterhub")
REVOKE_SCOPES = ["delete:users", "read:servers", "delete:servers"]


def configure(c: Any, settings: dict[str, Any]) -> None:
    """Fill JupyterHub's configuration `c` from the settings."""
    from .authenticators import REFRESH_SECONDS
    from .spawners import CampusSudoSpawner, CampusSystemdSpawner, environment_path

    hub = c.JupyterHub
    hub.bind_url = f"http://127.0.0.1:{settings['port']}"
    hub.hub_bind_url = f"http://127.0.0.1:{settings['hub_port']}"
    hub.log_level = settings["log_level"]
    # Servers and the proxy are units of their own: the hub comes and goes without them.
    hub.cleanup_servers = False
    hub.cleanup_proxy = False
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{settings['proxy_api_port']}"
    hub.db_url = database_url()
    # An SQLite database is copied before; for PostgreSQL the unit runs backup_database.py first.
    hub.upgrade_db = True
    hub.pid_file = ""

    configure_logins(c, settings)

    spawners = {"systemd": CampusSystemdSpawner, "sudo": CampusSudoSpawner}
    hub.spawner_class = spawners[settings["spawner"]]
    c.CampusSpawner.settings = {key: settings[key] for key in ("limits", "group_limits", "uid_minimum", "create_homes")}
    c.Spawner.cmd = [f"{settings['user_environment']}/bin/{settings['server_program']}"]
    # What the hub says of somebody holds in their server for as long as it does in the hub itself.
    c.Spawner.args = [f"--HubOAuth.cache_max_age={REFRESH_SECONDS}"]
    c.Spawner.default_url = settings["default_url"]
    c.Spawner.notebook_dir = settings["notebook_directory"]
    c.Spawner.start_timeout = settings["start_timeout"]
    c.Spawner.http_timeout = settings["start_timeout"]
    # The hub's own environment is none of the users' business.
    c.Spawner.env_keep = ["LANG", "LC_ALL", "TZ"]
    path = environment_path(settings["user_environment"])
    c.Spawner.environment = {"PATH": path, **{name: str(value) for name, value in settings["environment"].items()}}
    c.SystemdSpawner.disable_user_sudo = not settings["allow_sudo"]
    # As long as CampusSudoSpawner waits; the service manager's own 90 s would be the user's wait for "Stop my server".
    c.SystemdSpawner.unit_extra_properties = {"TimeoutStopSec": "10s"}

    hub.allow_named_servers = settings["named_servers"] > 0
    hub.named_server_limit_per_user = settings["named_servers"]
    hub.active_server_limit = settings["active_servers"]

    hub.template_paths = [str(SITE_DIRECTORY / "templates"), str(LIBRARY / "templates")]
    hub.template_vars = {
        "site_name": settings["site_name"],
        "help_url": settings["help_url"],
        "announcement": settings["announcement"],
        "own_logo": bool(settings["logo"]),
    }
    if settings["logo"]:
        hub.logo_file = settings["logo"]

    hub.services = [{"name": "proxy-routes", "api_token": os.environ.get("CAMPUSHUB_ROUTES_TOKEN", "")}]
    hub.load_roles = [{"name": "proxy-routes", "services": ["proxy-routes"], "scopes": ["proxy"]}]
    if "CAMPUSHUB_REVOKE_TOKEN" in os.environ:
        hub.services.append({"name": "revoke", "api_token": os.environ["CAMPUSHUB_REVOKE_TOKEN"]})
        hub.load_roles.append({"name": "revoke", "services": ["revoke"], "scopes": REVOKE_SCOPES})
    if settings["idle_timeout"]:
        hub.services.append({"name": "idle-culler", "command": culler(settings)})
        scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
        hub.load_roles.append({"name": "idle-culler", "services": ["idle-culler"], "scopes": scopes})


def configure_logins(c: Any, settings: dict[str, Any]) -> None:
    """Say who may log in, and how that is found out."""
    from .authenticators import REFRESH_SECONDS, CampusPAMAuthenticator

    c.JupyterHub.authenticator_class = CampusPAMAuthenticator
    c.PAMAuthenticator.service = "jupyterhub"
    if settings["authenticator"] == "ldap":
        from . import ldap_login

        ldap_login.configure(c, settings["ldap"])
    elif settings["authenticator"] == "oidc":
        from . import oidc_login

        oidc_login.configure(c, settings["oidc"])
    c.CampusAuthenticator.settings = {
        key: settings[key] for key in ("uid_minimum", "login_attempts", "login_domains", "door_proof", "oidc")
    }
    c.CampusAuthenticator.admin_groups = set(settings["admin_groups"])
    c.LocalAuthenticator.allowed_groups = {*settings["allowed_groups"], *settings["admin_groups"]}
    c.Authenticator.admin_users = set(settings["admin_users"])
    c.Authenticator.allowed_users = {*settings["allowed_users"], *settings["admin_users"]}
    c.Authenticator.allow_all = settings["allow_all"]
    # By default whoever has been in once could come again, whatever the lists say now.
    c.Authenticator.allow_existing_users = False
    c.Authenticator.auth_refresh_age = REFRESH_SECONDS
    # Tokens are no way to stay: those of a user who may not come in any more are of no use, and start no server.
    c.Authenticator.auth_refresh_strict = True
    c.Authenticator.refresh_pre_spawn = True
    # The front door, and the proxy behind it, tell the address of the one who asks.
    c.JupyterHub.trusted_downstream_ips = ["127.0.0.1", "::1", "::ffff:127.0.0.1"]


def culler(settings: dict[str, Any]) -> list[str]:
    """Return the command of the idle culler; it looks ten times within the timeout, but not more than once a minute."""
    timeout = settings["idle_timeout"]
    command = [sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={timeout}"]
    command.append(f"--cull-every={min(600, max(60, timeout // 10)) if timeout >= 60 else timeout}")
    if settings["max_age"]:
        command.append(f"--max-age={settings['max_age']}")
    return command


def database_url() -> str:
    """Return the database's URL; one with a password in it is a file of its own."""
    secret = SITE_DIRECTORY / "database_url"
    return secret.read_text().splitlines()[-1] if secret.exists() else f"sqlite:///{STATE_DIRECTORY}/jupyterhub.sqlite"


def read_settings(path: Path = SITE_DIRECTORY / "settings.json") -> dict[str, Any]:
    """Read the settings document."""
    settings: dict[str, Any] = json.loads(path.read_text())
    return settings


if __name__ == "__main__":
    # Called by the role before a new settings.json replaces the old one:
    # python -m campushub_hub.configuration FILE
    from traitlets.config import Config

    configure(Config(), read_settings(Path(sys.argv[1])))
