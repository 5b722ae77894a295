"""A real JupyterHub, set up from what the role writes, but not started."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import Environment
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.user import User
from jupyterhub.utils import maybe_future
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import HTTPError
from traitlets.config import Config, Configurable

from campushub_hub import configuration, translation
from campushub_hub.auth import base
from campushub_hub.auth.ldap import CampusLDAPAuthenticator
from campushub_hub.auth.oidc import CampusOIDCAuthenticator
from campushub_hub.auth.pam import CampusPAMAuthenticator
from campushub_hub.bin import revoke
from campushub_hub.spawners import CampusSlurmSpawner, CampusSudoSpawner, CampusSystemdSpawner
from campushub_hub.spawners.cluster import SlurmCluster
from campushub_hub.spawners.mixed import SpawnerTable

from .conftest import merged

ME = pwd.getpwuid(os.getuid()).pw_name
MY_GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this hub only, and secrets as its unit gives them."""
    (tmp_path / "etc").mkdir()
    monkeypatch.setattr(configuration, "STATE_DIRECTORY", tmp_path)
    monkeypatch.setattr(configuration, "SITE_DIRECTORY", tmp_path / "etc")
    monkeypatch.setenv("JPY_COOKIE_SECRET", "c" * 64)
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "p" * 64)
    monkeypatch.setenv("CAMPUSHUB_ROUTES_TOKEN", "r" * 64)
    monkeypatch.chdir(tmp_path)


def hub(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> JupyterHub:
    """Return the application with the configuration file that its unit gives it, which finds these settings."""
    monkeypatch.setattr(configuration, "read_settings", lambda: settings)
    app = JupyterHub(config_file=f"{configuration.LIBRARY}/jupyterhub_config.py")
    app.load_config_file(app.config_file)
    return app


def authenticator(settings: dict[str, Any], **changes: Any) -> CampusPAMAuthenticator:
    """Return the authenticator of a hub with these settings."""
    config = Config()
    # The tests may be run by root.
    sections: dict[str, dict[str, Any]] = {"CampusAuthenticator": {"uid_minimum": 0}}
    for name, value in changes.items():
        section = {"admin_groups": "CampusAuthenticator", "allowed_groups": "LocalAuthenticator"}.get(
            name, "Authenticator"
        )
        sections.setdefault(section, {})[name] = value
    configuration.configure(config, merged(settings, **sections))
    return CampusPAMAuthenticator(config=config)


def allowed(asked: CampusPAMAuthenticator, name: str) -> bool:
    """Whether a user whose password is right gets in, as JupyterHub decides it; who does not is told so."""

    async def decide() -> bool:
        return asked.allow_all or bool(await maybe_future(asked.check_allowed(name, {"name": name})))

    try:
        return asyncio.run(decide())
    except HTTPError as error:
        # Any other error counts as being let in, which a test then finds out.
        return (error.status_code, error.log_message) != (403, base.NOT_ALLOWED)


def test_the_configuration_file_is_the_whole_configuration(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc" / "config.d" / "inventory").mkdir(parents=True)
    (tmp_path / "etc" / "config.d" / "inventory" / "20-after.py").write_text(
        'c.JupyterHub.template_vars["announcement"] += "!"\n'
    )
    (tmp_path / "etc" / "config.d" / "10-site.py").write_text(
        'c.JupyterHub.template_vars["announcement"] = c.JupyterHub.template_vars["site_name"] + " is new"\n'
    )
    settings = merged(
        rendered["sudo"]["settings"],
        Authenticator={"admin_users": [ME], "allowed_users": []},
        CampusAuthenticator={"admin_groups": []},
    )

    async def start() -> JupyterHub:
        app = hub(monkeypatch, settings)
        await app.initialize([])
        return app

    app = asyncio.run(start())
    assert "not recognized" not in capsys.readouterr().err
    assert app.template_vars["announcement"] == "JupyterHub is new!", "the site's additions have the last word"
    assert app.bind_url == "http://127.0.0.1:980"
    assert app.hub.bind_url == "http://127.0.0.1:982/hub/"
    assert (app.cleanup_servers, app.cleanup_proxy, app.proxy.should_start) == (False, False, False)
    assert app.proxy.api_url == "http://127.0.0.1:981"
    assert app.proxy.auth_token == "p" * 64
    assert app.cookie_secret == bytes.fromhex("c" * 64)
    assert not (tmp_path / "jupyterhub_cookie_secret").exists()
    assert (app.allow_named_servers, app.named_server_limit_per_user) == (True, 2)
    assert [service["name"] for service in app.services] == ["proxy-routes"]
    scopes = {role.name: set(role.scopes) for role in app.db.query(orm.Role)}
    assert scopes["proxy-routes"] == {"proxy"}
    user = app.db.query(orm.User).filter(orm.User.name == ME).one()
    assert user.admin
    spawner = app.users[user].spawners[""]
    assert isinstance(spawner, CampusSudoSpawner)
    assert spawner.cmd == ["/opt/campushub/user/bin/jupyterhub-singleuser"]
    environment = spawner.get_env()
    assert environment["COURSE"] == 'Теория "1"'
    assert environment["OMP_NUM_THREADS"] == "4"
    assert environment["PATH"].split(":")[0] == "/opt/campushub/user/bin"
    assert environment["JUPYTER_RUNTIME_DIR"] == f"/run/jupyterhub-users/{os.getuid()}"
    secrets = {"p" * 64, "r" * 64, "c" * 64}
    assert not secrets & set(environment.values()), "the hub's secrets are none of the users' business"
    assert "CONFIGPROXY_AUTH_TOKEN" not in environment
    spawner.choose_limits()
    assert (spawner.limits["memory"], spawner.limits["cpu"]) == (None, 0.5)
    spawner.choose_limits(frozenset({"physics"}))
    assert spawner.limits["memory"] == 8 * 2**30


def test_names_of_users_are_known_to_hub_and_provider(
    rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = hub(monkeypatch, rendered["subdomains"]["settings"])
    assert app.public_url == "https://hub.example.org:8443/"
    assert app.subdomain_hook("j.doe", app.domain, "user") == "u-jdoe--d50cd4b.hub.example.org"
    provider = CampusOIDCAuthenticator(config=app.config)
    assert provider.get_callback_url() == "https://hub.example.org:8443/hub/oauth_callback"
    assert provider.admin_access
    plain = hub(monkeypatch, rendered["oidc"]["settings"])
    assert (plain.public_url, CampusOIDCAuthenticator(config=plain.config).admin_access) == ("", False)


def test_defaults_give_systemd_and_end_idle_servers(rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    app = hub(monkeypatch, rendered["systemd"]["settings"])
    assert app.spawner_class is CampusSystemdSpawner
    assert app.authenticator_class is CampusPAMAuthenticator
    assert app.allow_named_servers is False
    user = SimpleNamespace(name=ME, id=1, settings={})
    spawner = CampusSystemdSpawner(config=app.config, user=user, orm_spawner=SimpleNamespace(name="", server=None))
    assert (spawner.idle_timeout, spawner.max_age, spawner.extension_limit) == (43200, 0, 0)
    assert (spawner.end_warnings, spawner.save_timeout) == ([1800, 600, 120], 15)
    assert app.db_url.startswith("sqlite:///")


def test_url_of_the_database_is_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "etc" / "database_url").write_text("# Managed by CampusHub\npostgresql+psycopg://hub:s%40@db/hub\n")
    assert configuration.database_url() == "postgresql+psycopg://hub:s%40@db/hub"


def test_settings_hold_no_secret(rendered: dict[str, Any]) -> None:
    assert "pa55word" not in str(rendered["sudo"]["settings"])


def test_unknown_settings_are_all_named(rendered: dict[str, Any]) -> None:
    settings = merged(
        rendered["sudo"]["settings"],
        CampusSpawner={"creat_homes": True},
        JupyterHub={"get_sudo": "x"},
        CampusLDAPAuthenticator={"uris": []},
    )
    with pytest.raises(configuration.SettingsError) as raised:
        configuration.configure(Config(), settings)
    assert set(str(raised.value).splitlines()) == {
        "JupyterHub.get_sudo is no setting.",
        "CampusSpawner.creat_homes is no setting. Did you mean create_homes?",
        "CampusLDAPAuthenticator is no class of this hub. Did you mean CampusAuthenticator?",
    }


def test_a_value_of_the_wrong_kind_is_named(rendered: dict[str, Any], tmp_path: Path) -> None:
    for trait, value in {"user_memory_limit": "2 gigs", "create_homes": "perhaps"}.items():
        document = tmp_path / "settings.json"
        document.write_text(json.dumps(merged(rendered["systemd"]["settings"], CampusSpawner={trait: value})))
        message = configuration.main(str(document))
        assert value in message
        assert "size" in message or trait in message


@pytest.mark.parametrize(
    "host",
    [
        *("systemd", "sudo", "profiles", "everybody", "ldap", "oidc", "subdomains", "text"),
        *("slurm", "mixed", "mixed-slurm", "leftover"),
    ],
)
def test_the_role_writes_what_the_hub_accepts(rendered: dict[str, Any], tmp_path: Path, host: str) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(rendered[host]["settings"]))
    assert configuration.main(str(tmp_path / "settings.json")) == ""


def test_the_check_of_settings_is_a_quiet_program(rendered: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(rendered["systemd"]["settings"]))
    command = [sys.executable, "-m", "campushub_hub.configuration", str(tmp_path / "settings.json")]
    source = {**os.environ, "PYTHONPATH": str(configuration.LIBRARY.parent)}
    checked = subprocess.run(command, env=source, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "explained",
    [
        *(CampusSudoSpawner, CampusSystemdSpawner, CampusSlurmSpawner, SlurmCluster, SpawnerTable),
        *(CampusPAMAuthenticator, CampusLDAPAuthenticator, CampusOIDCAuthenticator),
    ],
)
def test_each_setting_has_help(explained: type[Configurable]) -> None:
    ours: list[Any] = [base for base in explained.mro() if base.__module__.startswith("campushub_hub.")]
    traits = {name: trait for base in ours for name, trait in base.class_own_traits(config=True).items()}
    assert traits
    assert [name for name, trait in traits.items() if not trait.help.strip()] == []


def test_a_setting_of_config_d_that_root_ignores_is_told(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc" / "config.d").mkdir()
    (tmp_path / "etc" / "config.d" / "10-homes.py").write_text("c.CampusSpawner.create_homes = True\n")
    hub(monkeypatch, rendered["systemd"]["settings"])
    assert capsys.readouterr().err == ""
    app = hub(monkeypatch, rendered["sudo"]["settings"])
    assert app.config.CampusSpawner.create_homes is True
    assert "CampusSpawner.create_homes has no effect outside settings.json" in capsys.readouterr().err


def test_a_place_in_a_cluster_that_is_not_there_is_told(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc" / "config.d").mkdir()
    profiles = [{"name": "big", "title": "Big", "partition": ["main", "gpu"]}]
    (tmp_path / "etc" / "config.d" / "10-profiles.py").write_text(f"c.CampusSpawner.profiles = {profiles}\n")
    hub(monkeypatch, rendered["slurm"]["settings"])
    assert capsys.readouterr().err == ""
    hub(monkeypatch, rendered["sudo"]["settings"])
    assert "of profile big have no effect on the hub's own host" in capsys.readouterr().err
    profiles[0]["run_on"] = "slurm"
    (tmp_path / "etc" / "config.d" / "10-profiles.py").write_text(f"c.CampusSpawner.profiles = {profiles}\n")
    hub(monkeypatch, rendered["sudo"]["settings"])
    assert "Profile big starts nothing" in capsys.readouterr().err


# Who may log in


def test_group_members_and_named_users_alone_may_log_in(rendered: dict[str, Any]) -> None:
    settings = rendered["systemd"]["settings"]
    assert allowed(authenticator(settings, allowed_groups=[MY_GROUP]), ME)
    assert allowed(authenticator(settings, allowed_groups=[], allowed_users=[ME]), ME)
    assert not allowed(authenticator(settings, allowed_groups=["nogroup"], allowed_users=["alice"]), ME)
    assert not allowed(authenticator(settings, allowed_groups=[]), ME)
    assert allowed(authenticator(settings, allowed_groups=[], allow_all=True), ME)


def test_administrators_may_log_in_without_another_list(rendered: dict[str, Any]) -> None:
    settings = rendered["systemd"]["settings"]
    assert allowed(authenticator(settings, admin_users=[ME]), ME)
    assert allowed(authenticator(settings, admin_groups=[MY_GROUP]), ME)


def test_who_was_in_before_is_out_when_the_settings_say_so(rendered: dict[str, Any]) -> None:
    asked = authenticator(rendered["systemd"]["settings"], allowed_users=["alice"])
    # As JupyterHub does at its start for everybody in its database.
    asyncio.run(asked.add_user(SimpleNamespace(name=ME)))
    assert not allowed(asked, ME)


def test_former_administrators_are_none_by_the_settings(rendered: dict[str, Any]) -> None:
    settings = rendered["systemd"]["settings"]

    def admin(**changes: Any) -> bool | None:
        return asyncio.run(authenticator(settings, **changes).is_admin(None, {"name": ME}))

    assert admin(admin_users=[ME]) is True
    assert admin(admin_groups=[MY_GROUP]) is True
    # None would leave the right as it is in the database.
    assert admin() is False
    assert admin(admin_users=["alice"], admin_groups=["nogroup"]) is False


@pytest.mark.parametrize("form", [{"username": ME, "password": ""}, {"username": ME}])
def test_without_a_password_nobody_gets_in(
    rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch, form: dict[str, str]
) -> None:
    """A PAM that would take anything, in place of the host's."""
    asked: list[str] = []

    def ask(name: str, *_: str) -> tuple[int, bool]:
        asked.append(name)
        return 0, True

    monkeypatch.setattr("campushub_hub.auth.pam.ask", ask)
    door = authenticator(rendered["systemd"]["settings"])
    assert asyncio.run(door.authenticate(None, form)) is None
    assert asked == []
    handler = SimpleNamespace(request=SimpleNamespace(remote_ip="192.0.2.1"))
    assert asyncio.run(door.authenticate(handler, {"username": ME, "password": "x"})) == {"name": ME}
    assert asked == [ME]


def test_a_token_is_no_way_to_stay(rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = merged(
        rendered["systemd"]["settings"], Authenticator={"admin_users": [ME]}, CampusAuthenticator={"uid_minimum": 0}
    )
    started: list[str] = []

    async def spawn(user: User, *_: Any, handler: Any, **__: Any) -> None:
        """Start no server; it is enough to know that one would be."""
        await user.refresh_auth(handler)
        started.append(user.name)
        raise HTTPError(418)

    monkeypatch.setattr(User, "spawn", spawn)

    async def asked() -> list[int]:
        app = hub(monkeypatch, settings)
        await app.initialize([])
        user = app.users[app.db.query(orm.User).filter(orm.User.name == ME).one()]
        listener, port = bind_unused_port()
        server = HTTPServer(app.tornado_application)
        server.add_socket(listener)
        headers = {"Authorization": f"token {user.new_api_token()}"}
        codes = []
        for name in (ME, "alice"):
            app.authenticator.admin_users = app.authenticator.allowed_users = {name}
            for method, path in (("GET", "user"), ("POST", f"users/{ME}/server")):
                answer = await AsyncHTTPClient().fetch(
                    f"http://127.0.0.1:{port}/hub/api/{path}",
                    method=method,
                    headers=headers,
                    allow_nonstandard_methods=True,
                    raise_error=False,
                )
                codes.append(answer.code)
            # As some seconds later.
            user._auth_refreshed = None  # noqa: SLF001
        server.stop()
        return codes

    assert asyncio.run(asked()) == [200, 418, 403, 403]
    assert started == [ME]


def test_the_command_may_do_what_it_needs_and_nothing_else(
    rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPUSHUB_REVOKE_TOKEN", "e" * 64)
    monkeypatch.setattr("shutil.which", lambda _: None)
    settings = merged(
        rendered["systemd"]["settings"], Authenticator={"admin_users": [ME]}, CampusAuthenticator={"uid_minimum": 0}
    )

    async def asked() -> tuple[list[str], int, int]:
        app = hub(monkeypatch, settings)
        await app.initialize([])
        listener, port = bind_unused_port()
        server = HTTPServer(app.tornado_application)
        server.add_socket(listener)
        words = [await asyncio.to_thread(revoke.revoke, name, port, "e" * 64) for name in (ME, "nobody-here")]
        listed = await AsyncHTTPClient().fetch(
            f"http://127.0.0.1:{port}/hub/api/groups", headers={"Authorization": f"token {'e' * 64}"}, raise_error=False
        )
        server.stop()
        return words, app.db.query(orm.User).filter(orm.User.name == ME).count(), listed.code

    assert asyncio.run(asked()) == (["", "the hub does not know them"], 0, 403)


# Profiles


def test_each_interface_of_a_profile_has_its_program(rendered: dict[str, Any]) -> None:
    """For the hub as for the mediator. Without profiles both files are as they were."""
    settings = rendered["profiles"]["settings"]["CampusSpawner"]
    assert [profile["name"] for profile in settings["profiles"]] == ["course", "desk"]
    assert settings["programs"]["desktop"] == "/opt/campushub/user/bin/jupyterhub-desktop"
    command = rendered["profiles"]["command"]
    assert {name: [words[-1]] for name, words in command.items()} == {
        name: [path] for name, path in settings["programs"].items()
    }
    assert command[""] == rendered["sudo"]["command"]
    assert not {"profiles", "programs"} & rendered["sudo"]["settings"]["CampusSpawner"].keys()


def test_one_hub_has_both_kinds_of_servers(rendered: dict[str, Any]) -> None:
    def table(host: str) -> tuple[str, str]:
        settings = rendered[host]["settings"]
        assert settings["JupyterHub"]["spawner_class"].endswith(".CampusMixedSpawner")
        assert settings["SlurmCluster"]["address"]
        assert settings["CampusSlurmSpawner"]["hub_connect_url"].startswith("https://")
        assert "hub_connect_url" not in settings["Spawner"], "servers on the host reach the hub as always"
        found = settings["SpawnerTable"]
        return found["local_class"].rpartition(".")[2], found["default_run_on"]

    assert table("mixed") == ("CampusSystemdSpawner", "local")
    assert table("mixed-slurm") == ("CampusSudoSpawner", "slurm")
    assert table("slurm") == ("CampusSudoSpawner", "slurm")
    assert table("leftover") == ("CampusSystemdSpawner", "local"), "jobs that run have a hub until they end"
    assert "SpawnerTable" not in rendered["systemd"]["settings"]


# The sudo rule


def test_sudo_rule_names_those_who_may_log_in_and_the_mediator(rendered: dict[str, Any], tmp_path: Path) -> None:
    mediator = "/opt/campushub/hub/bin/campushub-mediator"
    # Of a hub that is being upgraded; the file is removed when it has been restarted.
    former = "/usr/local/lib/campushub/campushub_hub/mediator.py"
    rules = {
        name: re.findall(r"^jupyterhub ALL = \((.*)\) NOPASSWD: (.*)$", parts["sudoers"], re.MULTILINE)
        for name, parts in rendered.items()
    }
    permitted = [f"{mediator} {word}" for word in ("spawn", "explain", "probe", "create-home", "store-token")]
    permitted += [f"{former} {word}" for word in ("spawn", "stop", "look", "make", "keep")]
    commands = ", ".join(permitted)
    # Whoever the user of a server is, or was.
    stop = ("root", "/opt/campushub/hub/bin/campushub-stop")
    assert rules["sudo"] == [('alice, bob, "%jupyter-users", "%domain users"', commands), stop]
    assert rules["everybody"] == [("ALL, !root, !#0", commands), stop]
    actions = ", ".join(f"{mediator} {word}" for word in ("submit", "probe", "create-home"))
    assert rules["slurm"] == [('"%jupyter-users"', actions), ("ALL, !root, !#0", f"{mediator} cancel")]
    local = ", ".join(f"{mediator} {word}" for word in ("spawn", "explain", "probe", "create-home", "store-token"))
    assert rules["mixed-slurm"][:2] == [('"%jupyter-users"', f"{mediator} submit, {local}"), stop]
    # A text that says no is no.
    assert rules["text"] == [('"%jupyter-users"', commands), stop]
    assert rendered["text"]["command"][:2] == ["/usr/bin/setpriv", "--no-new-privs"]
    visudo = shutil.which("visudo", path="/usr/sbin:/usr/bin:/sbin")
    if not visudo:
        pytest.skip("the rest needs visudo, of package sudo")
    for name in rules:
        file = tmp_path / name
        file.write_text(rendered[name]["sudoers"])
        file.chmod(0o440)
        subprocess.run([visudo, "-cf", file], check=True, capture_output=True)


# Languages of the pages


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("ru", "ru"),
        ("ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", "ru"),
        ("en-GB,ru;q=0.9", "en"),
        ("de,fr;q=0.9,ru;q=0.5,en;q=0.3", "ru"),
        ("de, fr", "en"),
        ("en;q=0.3, ru; q=0.8", "ru"),
        ("RU-ru", "ru"),
        # Rundi is not Russian, and what has weight 0 is unwanted.
        ("run", "en"),
        ("ru;q=0", "en"),
        ("ru;q=banana", "en"),
        ("ru;q=nan,en;q=0.1", "en"),
        ("ru;q=inf", "en"),
        ("*", "en"),
        (",,;;=,q=,ru", "ru"),
        ("'\"><script>,ru-", "ru"),
        ("ru," * 5000, "ru"),
    ],
)
def test_language_of_the_browser(header: str, language: str) -> None:
    assert translation.browser_language(header) == language


def pages(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], path: str, languages: tuple[str, ...]
) -> dict[str, str]:
    """Return a page of a real hub in each language."""

    async def ask() -> dict[str, str]:
        app = hub(monkeypatch, settings)
        await app.initialize([])
        listener, port = bind_unused_port()
        server = HTTPServer(app.tornado_application)
        server.add_socket(listener)
        found = {}
        for language in languages:
            answer = await AsyncHTTPClient().fetch(
                f"http://127.0.0.1:{port}{path}", headers={"Accept-Language": language}, raise_error=False
            )
            found[language] = answer.body.decode()
        server.stop()
        return found

    return asyncio.run(ask())


def test_login_page_is_in_the_language_of_the_browser(
    rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"site_name": "Centre & <Co>", "help_url": "https://help.example.org/?a=1&b=2", "announcement": ""}
    settings = merged(rendered["systemd"]["settings"], JupyterHub={"template_vars": names})
    found = pages(monkeypatch, settings, "/hub/login", ("ru", "en", "fr"))
    assert "Имя пользователя" in found["ru"]
    assert "Username" not in found["ru"]
    for language in ("en", "fr"):
        assert "Username" in found[language]
        assert "Имя пользователя" not in found[language]
    for page in found.values():
        assert "Centre &amp; &lt;Co&gt;" in page
        assert "<Co>" not in page
        assert 'href="https://help.example.org/?a=1&amp;b=2"' in page
        assert 'name="_xsrf"' in page


def test_error_pages_are_in_the_language_of_the_browser(
    rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pages(monkeypatch, rendered["systemd"]["settings"], "/hub/nowhere", ("ru", "fr"))
    assert '<h1 lang="ru">Такой страницы нет</h1>' in found["ru"]
    assert "Вернуться на начальную страницу" in found["ru"]
    assert '<h1 lang="en">There is no such page</h1>' in found["fr"]
    assert "Back to the start page" in found["fr"]


def test_pages_are_in_english_where_a_catalogue_is_broken(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    catalogue = tmp_path / "ru" / "LC_MESSAGES" / "campushub_hub.mo"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_bytes(b"\xde\x12\x04\x95 no catalogue")
    monkeypatch.setattr(translation, "LOCALE", tmp_path)
    translation.catalogues.cache_clear()
    try:
        found = pages(monkeypatch, rendered["systemd"]["settings"], "/hub/login", ("ru",))
    finally:
        translation.catalogues.cache_clear()
    assert "Username" in found["ru"]
    assert '<form action="/hub/login?next=" method="post" role="form" lang="en">' in found["ru"]
    assert f"Cannot read the translations in {catalogue}" in capfd.readouterr().err


def test_a_sites_own_options_of_pages_keep_translations(
    rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"jinja_environment_options": {"extensions": ["jinja2.ext.do"], "line_comment_prefix": "##"}}
    settings = merged(rendered["systemd"]["settings"], JupyterHub=options)
    assert "Имя пользователя" in pages(monkeypatch, settings, "/hub/login", ("ru",))["ru"]


def test_what_an_authenticator_says_is_neither_markup_nor_format() -> None:
    environment = Environment(autoescape=True, **translation.extended({}))
    page = environment.from_string("{{ _(message) }}{% trans who=name %} {{ who }}{% endtrans %}")
    assert page.render(message="<b>100% wrong %(x)s", name="<i>%s") == "&lt;b&gt;100% wrong %(x)s &lt;i&gt;%s"
