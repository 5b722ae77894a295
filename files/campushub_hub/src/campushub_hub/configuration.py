"""
JupyterHub's configuration from one document, /etc/jupyterhub/settings.json, that role `jupyterhub` writes.

The document has a section for each class and in it values of traits of that class, as `c.Class.trait = value` sets them
in a configuration file. What is the same at every site is set here.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from traitlets.config import Config, Configurable
from traitlets.utils.importstring import import_item

LIBRARY = Path(__file__).resolve().parent
SITE_DIRECTORY = Path("/etc/jupyterhub")
STATE_DIRECTORY = Path("/var/lib/jupyterhub")
REVOKE_SCOPES = ["delete:users", "read:servers", "delete:servers"]


class SettingsError(Exception):
    """The document has something that no class of the hub knows."""


def fixed() -> dict[str, dict[str, Any]]:
    """Return what is the same at every site."""
    from .auth.base import REFRESH_SECONDS

    return {
        "JupyterHub": {
            # Servers and the proxy are units of their own: the hub starts and stops without them.
            "cleanup_servers": False,
            "cleanup_proxy": False,
            "db_url": database_url(),
            # An SQLite database is copied before; for PostgreSQL the unit runs campushub-backup-database first.
            "upgrade_db": True,
            "pid_file": "",
            "proxy_class": "campushub_hub.proxy.CampusProxy",
            "template_paths": [str(SITE_DIRECTORY / "templates"), str(LIBRARY / "templates")],
            # The reverse proxy and the hub's own proxy tell the address of the client.
            "trusted_downstream_ips": ["127.0.0.1", "::1", "::ffff:127.0.0.1"],
            # The value of `_xsrf` is in the pages: no script needs the cookie, which all under one name could read.
            "tornado_settings": {
                "cookie_options": {"samesite": "Lax"},
                "xsrf_cookie_kwargs": {"samesite": "Lax", "httponly": True},
            },
            "services": [],
            "load_roles": [],
        },
        "ConfigurableHTTPProxy": {"should_start": False},
        "Spawner": {
            # A server caches the hub's answer about a user no longer than the hub itself.
            "args": [f"--HubOAuth.cache_max_age={REFRESH_SECONDS}"],
            # Nothing else of the hub's own environment is for users.
            "env_keep": ["LANG", "LC_ALL", "TZ"],
        },
        "SystemdSpawner": {
            "unit_extra_properties": {
                # As long as CampusSudoSpawner waits; the default of 90 s would keep "Stop my server" waiting.
                "TimeoutStopSec": "10s",
                # Otherwise each server that was killed, or did not start, stays listed as a failed unit.
                "CollectMode": "inactive-or-failed",
            }
        },
        "PAMAuthenticator": {"service": "jupyterhub"},
        "Authenticator": {
            # By default a user who has been allowed once stays allowed, whatever the lists say now.
            "allow_existing_users": False,
            "auth_refresh_age": REFRESH_SECONDS,
            # Tokens of users who are not allowed any more are refused, and start no server.
            "auth_refresh_strict": True,
            "refresh_pre_spawn": True,
        },
    }


def configure(c: Config, settings: dict[str, dict[str, Any]]) -> None:
    """Fill JupyterHub's configuration `c`. Raises SettingsError."""
    check(settings)
    c.merge(Config(fixed()))
    c.merge(Config(settings))
    hub, authenticator = c.JupyterHub, c.Authenticator
    authenticator.allowed_users = {*authenticator.allowed_users, *authenticator.admin_users}
    groups = c.CampusAuthenticator.admin_groups
    c.LocalAuthenticator.allowed_groups = {*c.LocalAuthenticator.allowed_groups, *groups}
    hub.allow_named_servers = hub.named_server_limit_per_user > 0


def finish(c: Config, document: dict[str, dict[str, Any]]) -> None:
    """Add translations and the hub's services, which depend on what the site's additions have set."""
    from .administrators import set_access
    from .profiles import LOCAL, read_profiles
    from .spawners import CampusSpawner, CampusSudoSpawner
    from .translation import extended

    hub, settings = c.JupyterHub, CampusSpawner(config=c)
    starters, main = spawners(document)
    spawner = starters[LOCAL]
    if issubclass(spawner, CampusSudoSpawner):
        documented = CampusSpawner(config=Config(document)).session_settings
        for name, value in settings.session_settings.items():
            if value != documented[name]:  # type: ignore[literal-required]
                print(
                    f"CampusSpawner.{name} has no effect outside settings.json with {spawner.__name__}, where root "
                    f"prepares the sessions. Set it in the inventory.",
                    file=sys.stderr,
                )
    for profile in read_profiles(settings.profiles):
        where = profile.run_on or main
        if where not in starters:
            print(f"Profile {profile.name} starts nothing: the hub has no cluster to run on.", file=sys.stderr)
        elif profile.in_cluster and where == LOCAL:
            print(
                f"The gpus, partition, account and qos of profile {profile.name} have no effect on the hub's own host.",
                file=sys.stderr,
            )
    kinds = import_item(document["JupyterHub"]["authenticator_class"]).__mro__
    set_access(next((c[kind.__name__].admin_access for kind in kinds if "admin_access" in c[kind.__name__]), False))
    # Our templates need it, whatever the site sets.
    hub.jinja_environment_options = extended(hub.get("jinja_environment_options", {}))
    add_service(hub, "proxy-routes", ["proxy"], api_token=os.environ.get("CAMPUSHUB_ROUTES_TOKEN", ""))
    if "CAMPUSHUB_REVOKE_TOKEN" in os.environ:
        add_service(hub, "revoke", REVOKE_SCOPES, api_token=os.environ["CAMPUSHUB_REVOKE_TOKEN"])


def spawners(settings: dict[str, dict[str, Any]]) -> tuple[dict[str, type[Any]], str]:
    """Return the spawners of a hub with these settings, by where they start servers, and where most run."""
    from .profiles import LOCAL, SLURM
    from .spawners import CampusMixedSpawner, CampusSlurmSpawner

    chosen = import_item(settings["JupyterHub"]["spawner_class"])
    if not issubclass(chosen, CampusMixedSpawner):
        return {LOCAL: chosen}, LOCAL
    table = settings["SpawnerTable"]
    return {LOCAL: import_item(table["local_class"]), SLURM: CampusSlurmSpawner}, table["default_run_on"]


def add_service(hub: Config, name: str, scopes: list[str], **settings: Any) -> None:
    """Add a service of the hub and a role with what it may do."""
    hub.services = [*hub.services, {"name": name, **settings}]
    hub.load_roles = [*hub.load_roles, {"name": name, "services": [name], "scopes": scopes}]


def check(settings: dict[str, dict[str, Any]]) -> None:
    """Raise SettingsError for each class or trait that there is not."""
    known = dict(classes(settings))
    problems = []
    for section, values in settings.items():
        if section not in known:
            problems.append(f"{section} is no class of this hub.{nearest(section, known)}")
            continue
        traits = known[section].class_traits(config=True)
        problems += [f"{section}.{name} is no setting.{nearest(name, traits)}" for name in values if name not in traits]
    if problems:
        raise SettingsError("\n".join(problems))


def nearest(name: str, known: dict[str, Any]) -> str:
    """Return a hint at the name that was probably meant."""
    found = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {found[0]}?" if found else ""


def classes(settings: dict[str, dict[str, Any]]) -> Iterator[tuple[str, type[Configurable]]]:
    """Yield the classes, by name, that a hub with these settings configures."""
    from jupyterhub.app import JupyterHub

    from .profiles import SLURM
    from .proxy import CampusProxy
    from .spawners.cluster import SlurmCluster
    from .spawners.mixed import SpawnerTable

    starters, _ = spawners(settings)
    authenticator = import_item(settings["JupyterHub"]["authenticator_class"])
    used = [JupyterHub, CampusProxy, *starters.values(), authenticator]
    if SLURM in starters:
        used += [SlurmCluster, SpawnerTable]
    for used_class in used:
        for base in used_class.mro():
            if issubclass(base, Configurable):
                yield base.__name__, base


def database_url() -> str:
    """Return the URL of the database; one that holds a password is in a file of its own."""
    secret = SITE_DIRECTORY / "database_url"
    return secret.read_text().splitlines()[-1] if secret.exists() else f"sqlite:///{STATE_DIRECTORY}/jupyterhub.sqlite"


def read_settings(path: Path = SITE_DIRECTORY / "settings.json") -> dict[str, dict[str, Any]]:
    """Read the settings document."""
    settings: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return settings


def main(path: str) -> str:
    """Return what is wrong with a settings document, or nothing."""
    from traitlets import TraitError

    config = Config()
    settings = read_settings(Path(path))
    try:
        configure(config, settings)
        finish(config, settings)
        import_item(settings["JupyterHub"]["authenticator_class"])(config=config)
    except (SettingsError, TraitError) as error:
        return str(error)
    return ""


if __name__ == "__main__":
    # Called by the role before a new settings.json replaces the old one:
    # python -m campushub_hub.configuration FILE
    sys.exit(main(sys.argv[1]) or 0)
