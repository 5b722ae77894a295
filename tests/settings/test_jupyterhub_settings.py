"""Every message of role jupyterhub about its settings, and settings that it takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.action.check_settings import shown
from tests.settings.validation import ROOT, answered_otherwise, facts

NAME = (
    "Use at most 32 lower-case letters, digits, dots, hyphens and underscores, "
    "and begin with a letter or an underscore."
)
TMP = (
    "Use /var/lib/campushub/tmp, a directory like it on a larger disk of the host, or nothing for the host's own /tmp."
)
USER = f"cannot be the name of a Unix user. {NAME}"
GROUP = (
    "cannot be the name of a group. Use at most 64 lower-case letters, digits, dots, hyphens, underscores and spaces, "
    "and begin with a letter or an underscore."
)
SIZE = 'is not a size. Write a number and one of K, M, G and T without a space, such as 512M or 2G; "" is unlimited.'
MEMORY = "is too small for a Jupyter server. Give at least 256M."
CPU = "is not a number of CPU cores that a server can run with. Give a number from 0.1 on, such as 2; 0 is unlimited."
TASKS = "is too small for a Jupyter server. Give at least 64; 0 is unlimited."
PORT = (
    "is not a port that ordinary users cannot open. "
    "Give a number from 1 to 1023, so that no user of the host can take the hub's place;"
)
ABSOLUTE = (
    "is not an absolute path. Begin it with a slash, or with {{ inventory_dir }}/ "
    "when the file is kept beside the inventory."
)
RENAME = "Rename one of the two."
PROFILE = (
    "cannot be the name of a profile. Use at most 30 lower-case letters, digits and single hyphens, "
    "and begin with a letter."
)
SIZES = (
    "is neither a size nor a list of sizes. "
    "Write one such as 4G, or a list such as [4G, 2G, 8G] with the default in the first place."
)
TOO_LONG = (
    "is longer than a job may run in its partition, jupyterhub_extension_limit included. "
    "Give fewer hours, or let the partition have more (slurm_partitions)."
)
NO_DISPLAYS = (
    "needs displays, which not all nodes of the cluster show. "
    "Put all hosts of the group compute into the group displays as well, or use lab or notebook."
)
PLACE = (
    "is neither a name that Slurm knows nor a list of such names. "
    "Write one as Slurm shows it, or a list with the default in the first place."
)
CORES = (
    "is neither a number of CPU cores that a server can run with nor a list of such numbers. "
    "Write one from 0.1 on, or a list such as [2, 1, 4] with the default in the first place."
)
HOURS = (
    "is neither a number of hours nor a list of such numbers. "
    "Write one from 0.1 on, or a list such as [8, 1, 24] with the default in the first place."
)
ADDRESS = "is no address. Begin it with https://, mailto: or /, and leave no space in it."
NETWORK = "is not a network. Write it like 192.0.2.7, 10.20.0.0/16 or 2001:db8::/32."
VARIABLE = "is neither a text nor a number. Put into quotes what the variable is to be."
DATABASE = (
    "jupyterhub_database_url is not a URL of a database that the hub has a driver for. Use "
    "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, with special characters of the password written like %40 for @, "
    "or leave it empty for SQLite."
)
SUPPORTED = (
    "is not supported. Use Debian 12 or 13, Ubuntu 22.04 or 24.04, "
    "or Enterprise Linux 9 (RHEL, Rocky, AlmaLinux, CentOS Stream, Oracle)."
)
LDAP_BASE = (
    "is no name in a directory. Write it like ou=people,dc=example,dc=org. It is needed with jupyterhub_ldap_filter, "
    "and where no jupyterhub_ldap_bind_templates say how users are named."
)
README = "See docs/reference/settings/jupyterhub.md."


def cases(directory: Path) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """For each fake host its settings and what must be said about them."""
    logo, code = directory / "logo.svg", directory / "10-site.py"
    text, other = directory / "notes.txt", directory / "more" / "10-site.py"
    other.parent.mkdir()
    for path in (logo, code, text, other):
        path.touch()
    gone = f"{directory}/gone.py"
    return {
        "defaults": ({}, []),
        "everything": (
            {
                "jupyterhub_spawner": "sudo",
                "jupyterhub_allow_all": "false",
                "jupyterhub_allowed_groups": ["_staff", "physics.lab"],
                "jupyterhub_allowed_users": ["alice", "b" * 32],
                "jupyterhub_admin_users": ["alice-2"],
                "jupyterhub_admin_groups": ["domain users"],
                "jupyterhub_uid_minimum": 500,
                "jupyterhub_memory_limit": "1.5G",
                "jupyterhub_cpu_limit": "0.5",
                "jupyterhub_tasks_limit": 0,
                "jupyterhub_group_limits": [
                    {"group": "physics.lab", "memory": "256M", "cpu": 0, "tasks": 64},
                    {"group": "chemistry", "memory": ""},
                    {"group": "empty", "memory": None, "cpu": None},
                ],
                "jupyterhub_profiles": [
                    {"name": "small", "title": "Малый", "interface": "lab", "memory": "1.5G", "cpu": 0.5, "hours": "8"},
                    {"name": "root-6", "title": "ROOT", "environment": "lcg", "groups": ["physics.lab"]},
                    {
                        "name": "any",
                        "title": "Any",
                        "memory": ["4G", "268435456"],
                        "cpu": [2, "4"],
                        "hours": [],
                        "groups": [],
                    },
                    {
                        "name": "desk",
                        "title": "Desktop",
                        "interface": "desktop",
                        "description": "Two\nlines",
                        "memory": None,
                    },
                    {"name": "geant", "title": "Geant4", "interface": "desktop", "application": "geant4"},
                ],
                "jupyterhub_applications": ["terminal", "geant4"],
                "jupyterhub_cvmfs_kernels": ["lcg"],
                "jupyterhub_environment": {"OMP_NUM_THREADS": 4, "_COURSE": "", "PI": 3.14},
                "jupyterhub_start_timeout": 5,
                "jupyterhub_named_servers": "3",
                "jupyterhub_idle_timeout": 0,
                "jupyterhub_max_age": 3600,
                "jupyterhub_extension_limit": "3600",
                "jupyterhub_end_warnings": [],
                "jupyterhub_save_timeout": "45",
                "jupyterhub_help_url": "mailto:help@example.org",
                "jupyterhub_password_url": "https://id.example.org/password",
                "jupyterhub_logo": str(logo),
                "jupyterhub_config_files": [str(code)],
                "jupyterhub_port": 1023,
                "jupyterhub_proxy_api_port": 1,
                "jupyterhub_database_url": "postgresql+psycopg://hub:p%40ss@db.example.org:5432/hub?sslmode=require",
            },
            [],
        ),
        "memory-in-bytes": ({"jupyterhub_memory_limit": 268435456}, []),
        "memory-unlimited": ({"jupyterhub_memory_limit": ""}, []),
        "everybody": ({"jupyterhub_allow_all": True, "jupyterhub_allowed_groups": []}, []),
        "postgresql-socket": ({"jupyterhub_database_url": "postgresql+psycopg:///hub?host=/run/postgresql"}, []),
        "postgresql-address": ({"jupyterhub_database_url": "postgresql+psycopg://hub@[2001:db8::1]:5432/hub"}, []),
        "sqlite": ({"jupyterhub_database_url": "sqlite:////srv/hub.sqlite"}, []),
        "ubuntu": ({"facts": facts("Ubuntu", "24.04", "noble")}, []),
        "rocky": ({"facts": facts("Rocky", "9.5", "Blue Onyx")}, []),
        "absent": ({"jupyterhub_state": "absent", "jupyterhub_allowed_groups": [], "jupyterhub_port": 1}, []),
        "fedora": ({"facts": facts("Fedora", "42", "")}, [f'distribution = "Fedora 42" {SUPPORTED}']),
        "debian11": ({"facts": facts("Debian", "11.9", "bullseye")}, [f'distribution = "Debian 11" {SUPPORTED}']),
        "ubuntu2310": ({"facts": facts("Ubuntu", "23.10", "mantic")}, [f'distribution = "Ubuntu 23.10" {SUPPORTED}']),
        "absent-on-fedora": (
            {"jupyterhub_state": "absent", "facts": facts("Fedora", "42", "")},
            [f'distribution = "Fedora 42" {SUPPORTED}'],
        ),
        "nobody": (
            {"jupyterhub_allowed_groups": [], "jupyterhub_admin_users": ["alice"]},
            [
                (
                    "jupyterhub_allowed_groups = [] lets nobody log in, and jupyterhub_allowed_users is empty too. "
                    "Name a Unix group or some users, or say jupyterhub_allow_all: true to let in everybody who has an "
                    "account."
                )
            ],
        ),
        "everybody-and-some": (
            {"jupyterhub_allow_all": True, "jupyterhub_allowed_users": ["alice"]},
            [
                (
                    "jupyterhub_allow_all = true lets in everybody, while jupyterhub_allowed_users names some. "
                    "Decide: jupyterhub_allow_all: false, or jupyterhub_allowed_users: []."
                )
            ],
        ),
        "names": (
            {
                "jupyterhub_allowed_groups": ["Staff", "lab"],
                "jupyterhub_allowed_users": ["alice", "al ice", "1st", "c" * 33],
                "jupyterhub_admin_groups": ["%wheel"],
                "jupyterhub_admin_users": ["Алиса", "root, ALL", "eve\n"],
                "jupyterhub_group_limits": [{"group": "staff, root"}],
            },
            [
                f'jupyterhub_allowed_groups[0] = "Staff" {GROUP}',
                f'jupyterhub_allowed_users[1] = "al ice" {USER}',
                f'jupyterhub_allowed_users[2] = "1st" {USER}',
                f'jupyterhub_allowed_users[3] = "{"c" * 33}" {USER}',
                f'jupyterhub_admin_groups[0] = "%wheel" {GROUP}',
                f'jupyterhub_admin_users[0] = "Алиса" {USER}',
                f'jupyterhub_admin_users[1] = "root, ALL" {USER}',
                f'jupyterhub_admin_users[2] = "eve\\n" {USER}',
                f'jupyterhub_group_limits[0].group = "staff, root" {GROUP}',
            ],
        ),
        "tmp": (
            {"jupyterhub_tmp_directory": "tmp"},
            [f'jupyterhub_tmp_directory = "tmp" is no absolute path. {TMP}'],
        ),
        "tmp in memory": (
            {"jupyterhub_tmp_directory": "/tmp/users"},
            [f'jupyterhub_tmp_directory = "/tmp/users" is no place for users\' temporary files. {TMP}'],
        ),
        "subdomains": ({"jupyterhub_subdomain_host": "https://hub.example.org:8443"}, []),
        "subdomains-path": (
            {"jupyterhub_subdomain_host": "https://192.0.2.1/hub"},
            [
                (
                    'jupyterhub_subdomain_host = "https://192.0.2.1/hub" is no address with a host name and without a '
                    "path. Write it like https://jupyter.example.org, or leave it empty for one name for all servers."
                )
            ],
        ),
        "uid": (
            {"jupyterhub_uid_minimum": 0},
            [
                (
                    "jupyterhub_uid_minimum = 0 would let accounts of the system in. "
                    "Give the first UID that belongs to a person, at least 500; 1000 is usual."
                )
            ],
        ),
        "ldap": (
            {
                "jupyterhub_authenticator": "ldap",
                "jupyterhub_ldap_uris": ["ldaps://ldap1.example.org"],
                "jupyterhub_ldap_user_base_dn": "ou=people,dc=example,dc=org",
                "jupyterhub_ldap_filter": "(&({userattr}={username})(memberOf=cn=hub,dc=example,dc=org))",
                "jupyterhub_ldap_lookup_dn": "cn=reader,dc=example,dc=org",
                "jupyterhub_ldap_lookup_password": "secret",
            },
            [],
        ),
        "ldap-empty": (
            {"jupyterhub_authenticator": "ldap"},
            [
                "jupyterhub_ldap_uris = [] is empty. Name the servers of the directory, such as ldaps://ldap.example.org.",
                f'jupyterhub_ldap_user_base_dn = "" {LDAP_BASE}',
            ],
        ),
        "ldap-wrong": (
            {
                "jupyterhub_authenticator": "ldap",
                "jupyterhub_ldap_uris": ["https://ldap", "ldap://ldap"],
                "jupyterhub_ldap_start_tls": False,
                "jupyterhub_ldap_ca_certificate": "/nowhere/ca.pem",
                "jupyterhub_ldap_bind_templates": ["uid=%s,dc=example", "uid={user},dc=example"],
                "jupyterhub_ldap_user_base_dn": "people",
                "jupyterhub_ldap_lookup_password": "s3cret",
            },
            [
                (
                    'jupyterhub_ldap_uris[0] = "https://ldap" is no address of a directory. '
                    "Write it like ldaps://ldap.example.org or, for StartTLS, ldap://ldap.example.org."
                ),
                (
                    'jupyterhub_ldap_uris[1] = "ldap://ldap" would send passwords over the network for everybody to '
                    "read. Use ldaps://, or set jupyterhub_ldap_start_tls: true. "
                    "Who cannot have TLS must say jupyterhub_ldap_allow_insecure: true."
                ),
                (
                    'jupyterhub_ldap_ca_certificate = "/nowhere/ca.pem" is no file on the controller. Give the path of '
                    "the authority's certificate there, or leave it empty for those that the host trusts."
                ),
                *(
                    f'jupyterhub_ldap_bind_templates[{index}] = "{text}" does not say where the name of the user goes. '
                    "Write {username} there, once, as in uid={username},ou=people,dc=example,dc=org."
                    for index, text in enumerate(("uid=%s,dc=example", "uid={user},dc=example"))
                ),
                f'jupyterhub_ldap_user_base_dn = "people" {LDAP_BASE}',
                (
                    "jupyterhub_ldap_lookup_password and jupyterhub_ldap_lookup_dn are of use together only. "
                    "Give both, or neither."
                ),
            ],
        ),
        "ldap-filter": (
            {"jupyterhub_ldap_filter": "(memberOf=cn=hub,ou=groups,dc=example,dc=org)"},
            [
                (
                    'jupyterhub_ldap_filter = "(memberOf=cn=hub,ou=groups,dc=example,dc=org)" does not look for the '
                    "user who logs in. Write it like "
                    "(&({userattr}={username})(memberOf=cn=hub,ou=groups,dc=example,dc=org))."
                )
            ],
        ),
        "ldap-line": (
            {"jupyterhub_ldap_lookup_dn": "cn=reader", "jupyterhub_ldap_lookup_password": "a\nb"},
            ["jupyterhub_ldap_lookup_password holds a line break. Choose another one."],
        ),
        "ldap-no-certificate": (
            {
                "jupyterhub_authenticator": "ldap",
                "jupyterhub_ldap_uris": ["ldaps://ldap"],
                "jupyterhub_ldap_bind_templates": ["uid={username},dc=example"],
                "jupyterhub_ldap_ca_certificate": __file__,
            },
            [
                (
                    f"jupyterhub_ldap_ca_certificate = {shown(__file__)} holds no certificate. It begins with "
                    "-----BEGIN CERTIFICATE"
                    "-----. Convert DER with: openssl x509 -inform der -in FILE -out FILE.pem."
                )
            ],
        ),
        "oidc": (
            {
                "jupyterhub_authenticator": "oidc",
                "jupyterhub_oidc_issuer": "https://login.example.org/realms/university",
                "jupyterhub_oidc_client_id": "hub",
                "jupyterhub_oidc_client_secret": "s3cret",
                "jupyterhub_oidc_name_claim": "email",
                "jupyterhub_oidc_token_format": "oauth2:{token}:{userinfo}",
                "jupyterhub_login_domains": ["example.org"],
            },
            [],
        ),
        "oidc-empty": (
            {"jupyterhub_authenticator": "oidc", "jupyterhub_oidc_scopes": ["email"]},
            [
                (
                    'jupyterhub_oidc_issuer = "" is no address of an OpenID Connect provider. '
                    "Write what it calls its issuer, like https://login.example.org/realms/university."
                ),
                (
                    'jupyterhub_oidc_client_id = "" is empty. '
                    "Register the hub at the provider and give the identifier that it has got there."
                ),
                (
                    "jupyterhub_oidc_client_secret is empty, or holds a space or a line break. "
                    "Give the secret that the provider has given to the hub."
                ),
                (
                    'jupyterhub_oidc_scopes = ["email"] has no openid, without which a provider does not say who '
                    "somebody is. Write [openid, profile, email], or what the provider wants besides openid."
                ),
            ],
        ),
        "oidc-wrong": (
            {
                "jupyterhub_authenticator": "oidc",
                "jupyterhub_spawner": "sudo",
                "jupyterhub_oidc_issuer": "http://login.example.org",
                "jupyterhub_oidc_client_id": "hub",
                "jupyterhub_oidc_client_secret": "s3cret",
                "jupyterhub_oidc_name_claim": "user name",
                "jupyterhub_oidc_create_accounts": True,
                "jupyterhub_oidc_groups_claim": "groups",
                "jupyterhub_oidc_token_format": "oauth2:{tokens} x",
            },
            [
                (
                    'jupyterhub_oidc_issuer = "http://login.example.org" has no TLS, so that anybody on the way could '
                    "log in as anybody. Use https://. Who cannot must say jupyterhub_oidc_allow_insecure: true."
                ),
                (
                    'jupyterhub_oidc_name_claim = "user name" cannot be the name of a claim. '
                    "Write one like preferred_username, email or eduperson_principal_name."
                ),
                (
                    'jupyterhub_oidc_groups_claim = "groups" names groups that the sudo rule of this '
                    "jupyterhub_spawner cannot know. Set jupyterhub_spawner: systemd, or leave it empty and use groups "
                    "of the host."
                ),
                *(
                    f'jupyterhub_oidc_token_format = "oauth2:{{tokens}} x" {problem}. Write {{token}} for the token '
                    "alone, oauth2:{token}:{userinfo} for EOS, or leave it empty for none."
                    for problem in (
                        "has other words in braces than {token} and {userinfo}, or spaces",
                        "has no {token}",
                    )
                ),
                (
                    "jupyterhub_oidc_create_accounts = true wants a hub that may make accounts, which it may not with "
                    "this jupyterhub_spawner. Set jupyterhub_spawner: systemd, or have the accounts from elsewhere."
                ),
            ],
        ),
        "login": (
            {"jupyterhub_login_domains": ["Example.org", "@example.org"], "jupyterhub_login_attempts": 1},
            [
                *(
                    f'jupyterhub_login_domains[{index}] = "{text}" is no domain in lower case. '
                    "Write what people may put behind their name, like example.org."
                    for index, text in enumerate(("Example.org", "@example.org"))
                ),
                ("jupyterhub_login_attempts = 1 would lock out people who mistype. Give at least 3; 5 is usual."),
            ],
        ),
        "limits-gigs": ({"jupyterhub_memory_limit": "2 gigs"}, [f'jupyterhub_memory_limit = "2 gigs" {SIZE}']),
        "limits-unit": ({"jupyterhub_memory_limit": "2GB"}, [f'jupyterhub_memory_limit = "2GB" {SIZE}']),
        "limits-negative": ({"jupyterhub_memory_limit": "-1G"}, [f'jupyterhub_memory_limit = "-1G" {SIZE}']),
        "limits-line": ({"jupyterhub_memory_limit": "2G\n"}, [f'jupyterhub_memory_limit = "2G\\n" {SIZE}']),
        "limits-memory": ({"jupyterhub_memory_limit": "2"}, [f'jupyterhub_memory_limit = "2" {MEMORY}']),
        "limits-number": ({"jupyterhub_memory_limit": 2}, [f"jupyterhub_memory_limit = 2 {MEMORY}"]),
        "limits-cpu": (
            {"jupyterhub_cpu_limit": 0.05, "jupyterhub_tasks_limit": 10},
            [f"jupyterhub_cpu_limit = 0.05 {CPU}", f"jupyterhub_tasks_limit = 10 {TASKS}"],
        ),
        "limits-below-zero": (
            {"jupyterhub_cpu_limit": -1, "jupyterhub_tasks_limit": -1},
            [f"jupyterhub_cpu_limit = -1 {CPU}", f"jupyterhub_tasks_limit = -1 {TASKS}"],
        ),
        "limits-groups": (
            {
                "jupyterhub_group_limits": [
                    {"group": "a", "memory": "2 gigs", "cpu": -0.5, "tasks": 1},
                    {"group": "b", "memory": "100M"},
                    {"group": "a", "memory": "1G"},
                ]
            },
            [
                (
                    'jupyterhub_group_limits[2].group = "a" has an entry before this one, which counts. '
                    "Remove one of the two."
                ),
                f'jupyterhub_group_limits[0].memory = "2 gigs" {SIZE}',
                f'jupyterhub_group_limits[1].memory = "100M" {MEMORY}',
                f"jupyterhub_group_limits[0].cpu = -0.5 {CPU}",
                f"jupyterhub_group_limits[0].tasks = 1 {TASKS}",
            ],
        ),
        "limits-groups-keys": (
            {"jupyterhub_group_limits": [{"group": "a", "memmory": "1G"}, {"memory": "1G"}]},
            [
                ("jupyterhub_group_limits[0].memmory is no setting of jupyterhub_group_limits. Did you mean memory?"),
                f"jupyterhub_group_limits[1].group is missing. {README}",
            ],
        ),
        "paths": (
            {"jupyterhub_user_environment": "opt/user", "jupyterhub_default_url": "lab"},
            [
                (
                    'jupyterhub_user_environment = "opt/user" is not an absolute path without spaces. '
                    "Use /opt/campushub/user, where role jupyter puts it."
                ),
                'jupyterhub_default_url = "lab" is not a path of the server. Use /lab or /tree.',
            ],
        ),
        "server": (
            {"jupyterhub_interface": "desktop", "jupyterhub_displays": False},
            [
                (
                    'jupyterhub_interface = "desktop" needs displays, which this host does not show. '
                    "Put the host into the group displays as well, or use notebooks."
                )
            ],
        ),
        "profiles": (
            {
                "jupyterhub_displays": False,
                "jupyterhub_profiles": [
                    {"name": "Big", "title": "Big\n", "interface": "desktop", "environment": "lcg", "memory": "lots"},
                    {"name": "a", "title": "A", "environment": "nosuch", "memory": ["4G", "100M"], "cpu": [2, "two"]},
                    {"name": "a", "title": "A", "memory": [""], "cpu": 0.01, "hours": [8, -1], "groups": ["a,b"]},
                    {"name": "b", "title": "B", "memory": {"a": 1}, "cpu": True, "hours": "8h"},
                    {"name": "c", "title": "C", "interface": "lab", "application": "terminal"},
                    {"name": "d", "title": "D", "interface": "desktop", "application": "nosuch"},
                ],
                "jupyterhub_applications": ["terminal", "geant4"],
                "jupyterhub_cvmfs_kernels": ["lcg", "eessi"],
            },
            [
                f'jupyterhub_profiles[0].name = "Big" {PROFILE}',
                f'jupyterhub_profiles[2].name = "a" is the name of a profile before this one, too. {RENAME}',
                (
                    'jupyterhub_profiles[0].title = "Big\\n" (Big) is no title of one line. '
                    "Write at most 80 characters, and the rest into the description."
                ),
                (
                    'jupyterhub_profiles[0].interface = "desktop" (Big) needs displays, which this host does not show. '
                    "Put the host into the group displays as well, or use lab or notebook."
                ),
                (
                    'jupyterhub_profiles[5].interface = "desktop" (d) needs displays, which this host does not show. '
                    "Put the host into the group displays as well, or use lab or notebook."
                ),
                (
                    'jupyterhub_profiles[4].application = "terminal" (c) is for a display, and this profile has none. '
                    "Set interface: desktop, or leave it out."
                ),
                (
                    'jupyterhub_profiles[5].application = "nosuch" (d) is nothing that displays here can be started '
                    "with. Use one of terminal, geant4, or describe it in displays_applications."
                ),
                (
                    'jupyterhub_profiles[1].environment = "nosuch" (a) is no software that notebooks can begin with '
                    "here. Use one of lcg, eessi, or describe it in jupyter_cvmfs_kernels."
                ),
                (
                    'jupyterhub_profiles[0].environment = "lcg" (Big) is for notebooks, and this profile starts a '
                    "desktop. Leave it out, or set interface: lab."
                ),
                f'jupyterhub_profiles[0].memory = "lots" (Big) {SIZES}',
                f'jupyterhub_profiles[2].memory = [""] (a) {SIZES}',
                f'jupyterhub_profiles[3].memory = {{"a": 1}} (b) {SIZES}',
                f'jupyterhub_profiles[1].memory = ["4G", "100M"] (a) {MEMORY}',
                f'jupyterhub_profiles[1].cpu = [2, "two"] (a) {CORES}',
                f"jupyterhub_profiles[2].cpu = 0.01 (a) {CORES}",
                f"jupyterhub_profiles[3].cpu = true (b) {CORES}",
                f"jupyterhub_profiles[2].hours = [8, -1] (a) {HOURS}",
                f'jupyterhub_profiles[3].hours = "8h" (b) {HOURS}',
                f'jupyterhub_profiles[2].groups = ["a,b"] (a) has what {GROUP}',
            ],
        ),
        "profile-keys": (
            {
                "jupyterhub_profiles": [
                    {"name": "a", "title": "A", "memroy": "1G"},
                    {"name": "b", "interface": "rstudio"},
                ]
            },
            [
                "jupyterhub_profiles[0].memroy is no setting of jupyterhub_profiles. Did you mean memory?",
                f"jupyterhub_profiles[1].title is missing. {README}",
                f'jupyterhub_profiles[1].interface = "rstudio" is none of lab, notebook, desktop. {README}',
            ],
        ),
        "environment": (
            {"jupyterhub_environment": {"MY-VARIABLE": "x", "2ND": "y", "DEBUG": True, "LIST": ["a"], "NONE": None}},
            [
                *(
                    f'jupyterhub_environment["{name}"] = "{value}" has a name that no environment variable can have. '
                    "Use letters, digits and underscores, and do not begin with a digit."
                    for name, value in (("2ND", "y"), ("MY-VARIABLE", "x"))
                ),
                f'jupyterhub_environment["DEBUG"] = true {VARIABLE}',
                f'jupyterhub_environment["LIST"] = ["a"] {VARIABLE}',
                f'jupyterhub_environment["NONE"] = null {VARIABLE}',
            ],
        ),
        "numbers": (
            {
                "jupyterhub_start_timeout": 0,
                "jupyterhub_named_servers": -1,
                "jupyterhub_active_servers": -1,
                "jupyterhub_idle_timeout": -60,
                "jupyterhub_max_age": -1,
                "jupyterhub_extension_limit": -1,
                "jupyterhub_end_warnings": [600, 5],
                "jupyterhub_save_timeout": 120,
            },
            [
                (
                    "jupyterhub_start_timeout = 0 is too short for a server to start. "
                    "Give at least 5 seconds; 60 is usual."
                ),
                (
                    "jupyterhub_named_servers = -1 is not a number of servers. "
                    "Give how many servers a user may have in addition to the first one; 0 turns them off."
                ),
                (
                    "jupyterhub_active_servers = -1 is not a number of servers. "
                    "Give how many servers may run at once; 0 is unlimited."
                ),
                "jupyterhub_idle_timeout = -60 is not a time. Give seconds, such as 43200 for 12 hours; 0 is never.",
                "jupyterhub_max_age = -1 is not a time. Give seconds, such as 604800 for a week; 0 is never.",
                "jupyterhub_extension_limit = -1 is not a time. Give seconds, such as 86400 for a day; 0 is none.",
                (
                    "jupyterhub_end_warnings[1] = 5 leaves nobody the time to do anything. "
                    "Give seconds, such as 1800, 600 and 120; an empty list announces nothing."
                ),
                (
                    "jupyterhub_save_timeout = 120 is longer than those who stop a server wait, or no time at all. "
                    "Give 1 to 45 seconds."
                ),
            ],
        ),
        "extension": (
            {"jupyterhub_max_age": 3600, "jupyterhub_extension_limit": 7200},
            [
                (
                    "jupyterhub_extension_limit = 7200 is more than jupyterhub_max_age, beyond which it keeps servers. "
                    "Give at most what a server has anyway, or raise jupyterhub_max_age."
                )
            ],
        ),
        "help": ({"jupyterhub_help_url": "help.example.org"}, [f'jupyterhub_help_url = "help.example.org" {ADDRESS}']),
        "fail2ban": (
            {
                "jupyterhub_fail2ban": True,
                "jupyterhub_fail2ban_ignore": ["10.0.0.0/8", "2001:db8::7", "10.0.0.0/33", "campus"],
            },
            [
                f'jupyterhub_fail2ban_ignore[2] = "10.0.0.0/33" {NETWORK}',
                f'jupyterhub_fail2ban_ignore[3] = "campus" {NETWORK}',
            ],
        ),
        "help-script": (
            {"jupyterhub_help_url": "javascript:alert(1)"},
            [f'jupyterhub_help_url = "javascript:alert(1)" {ADDRESS}'],
        ),
        "password": (
            {"jupyterhub_password_url": "id.example.org"},
            [f'jupyterhub_password_url = "id.example.org" {ADDRESS}'],
        ),
        "logo": ({"jupyterhub_logo": "logo.svg"}, [f'jupyterhub_logo = "logo.svg" {ABSOLUTE}']),
        "logo-gone": (
            {"jupyterhub_logo": gone},
            [
                (
                    f'jupyterhub_logo = "{gone}" is no file on the controller. '
                    "Give the path of a picture, or leave it empty for Jupyter's logo."
                )
            ],
        ),
        "config-files": (
            {"jupyterhub_config_files": ["site.py", gone, str(text), str(code), str(other)]},
            [
                f'jupyterhub_config_files[0] = "site.py" {ABSOLUTE}',
                f'jupyterhub_config_files[1] = "{gone}" is no file on the controller. Give the path of a Python file.',
                (
                    f'jupyterhub_config_files[2] = "{text}" would not be read, for its name does not end in .py. '
                    "Rename it."
                ),
                (
                    f'jupyterhub_config_files[4] = "{other}" would replace the file of the same name before it in the '
                    "list. Rename one of the two."
                ),
            ],
        ),
        "slurm": (
            {
                "jupyterhub_spawner": "slurm",
                "jupyterhub_interface": "desktop",
                "jupyterhub_displays": True,
                "jupyterhub_slurm_displays": False,
                "jupyterhub_slurm_partition": "main\n",
                "jupyterhub_slurm_account": "a,b",
                "jupyterhub_slurm_hours": 0,
                "jupyterhub_slurm_queue_timeout": 5,
                "jupyterhub_slurm_address": "https://hub1",
                "jupyterhub_slurm_report_port": 8000,
                "jupyterhub_slurm_api_port": 980,
            },
            [
                (
                    'jupyterhub_interface = "desktop" needs displays, which not all nodes of the cluster show. '
                    "Put all hosts of the group compute into the group displays as well, or use notebooks."
                ),
                (
                    'jupyterhub_slurm_partition = "main\\n" cannot be the name of a partition. '
                    "Write it as sinfo shows it, or leave it empty for the default of the cluster."
                ),
                (
                    'jupyterhub_slurm_account = "a,b" cannot be the name of an account. '
                    "Write it as sacctmgr shows it, or leave it empty where the cluster has no accounts."
                ),
                "jupyterhub_slurm_hours = 0 is no time that a server can run. Give hours, such as 12 or 0.5.",
                (
                    "jupyterhub_slurm_queue_timeout = 5 is no time that people could wait. "
                    "Give seconds, from 30 to 604800 (a week)."
                ),
                (
                    'jupyterhub_slurm_address = "https://hub1" is no name of a host. '
                    "Write the name by which nodes reach the hub, such as hub1.example.org."
                ),
                f"jupyterhub_slurm_report_port = 8000 {PORT} 983 is usual.",
                (
                    "jupyterhub_slurm_api_port = 980 or jupyterhub_slurm_report_port is that of something else of the "
                    "hub, too. Give each a port of its own, such as 984 and 983."
                ),
            ],
        ),
        "slurm-profiles": (
            {
                "jupyterhub_spawner": "slurm",
                # Where desktops run there are some.
                "jupyterhub_displays": False,
                "jupyterhub_profiles": [
                    {"name": "a", "title": "A", "partition": "-x", "account": ["one", "two words"], "qos": "a,b"},
                    {"name": "b", "title": "B", "partition": ["main", "gpu"], "account": "p-1", "qos": "high"},
                    {"name": "c", "title": "C", "interface": "desktop"},
                ],
            },
            [
                f'jupyterhub_profiles[0].partition = "-x" (a) {PLACE}',
                f'jupyterhub_profiles[0].account = ["one", "two words"] (a) {PLACE}',
                f'jupyterhub_profiles[0].qos = "a,b" (a) {PLACE}',
            ],
        ),
        "profiles-without-a-cluster": (
            {"jupyterhub_profiles": [{"name": "a", "title": "A", "partition": "main"}]},
            [
                (
                    'jupyterhub_profiles[0].name = "a" has a partition, an account or a QOS, which are of servers in a '
                    "cluster. Leave them out, or write run_on: slurm."
                )
            ],
        ),
        "profiles-of-both-kinds": (
            {
                "jupyterhub_displays": True,
                "jupyterhub_slurm_displays": False,
                "jupyterhub_extension_limit": 3600,
                "jupyterhub_max_age": 86400,
                "jupyterhub_slurm_partitions": [
                    {"name": "main", "hours": 8},
                    {"name": "long"},
                    {"name": "short", "hours": 1},
                ],
                "jupyterhub_profiles": [
                    {"name": "a", "title": "A", "hours": 200, "interface": "desktop"},
                    {"name": "b", "title": "B", "run_on": "slurm", "hours": [7, 1], "partition": ["main", "short"]},
                    {"name": "c", "title": "C", "run_on": "slurm", "hours": [1, 200], "partition": ["main", "long"]},
                    {"name": "d", "title": "D", "run_on": "slurm"},
                    {"name": "e", "title": "E", "run_on": "slurm", "hours": 1, "partition": ["short", "long"]},
                    {"name": "f", "title": "F", "run_on": "slurm", "hours": [1, 8]},
                    {"name": "g", "title": "G", "run_on": "slurm", "hours": 1, "partition": "gpu"},
                    {"name": "h", "title": "H", "run_on": "slurm", "hours": 1, "interface": "desktop"},
                    {"name": "i", "title": "I", "run_on": "local", "qos": "high"},
                    {"name": "j", "title": "J", "run_on": "kubernetes"},
                ],
            },
            [
                f'jupyterhub_profiles[9].run_on = "kubernetes" is none of local, slurm. {README}',
                f'jupyterhub_profiles[7].interface = "desktop" (h) {NO_DISPLAYS}',
                (
                    'jupyterhub_profiles[6].partition = "gpu" (g) has what is no partition of the cluster. '
                    "Use main, long, short, or add it to slurm_partitions."
                ),
                f"jupyterhub_profiles[3].hours = 12.0 (d) {TOO_LONG}",
                f"jupyterhub_profiles[4].hours = 1 (e) {TOO_LONG}",
                f"jupyterhub_profiles[5].hours = [1, 8] (f) {TOO_LONG}",
                (
                    'jupyterhub_profiles[8].name = "i" has a partition, an account or a QOS, which are of servers in a '
                    "cluster. Leave them out, or write run_on: slurm."
                ),
            ],
        ),
        "hours-of-all-servers": (
            {
                "jupyterhub_spawner": "slurm",
                "jupyterhub_slurm_partitions": [{"name": "main", "hours": 8}, {"name": "long"}],
                "jupyterhub_slurm_partition": "big",
            },
            [
                (
                    'jupyterhub_slurm_partition = "big" is no partition of the cluster. '
                    "Use one of slurm_partitions, or leave it empty for the first of them."
                ),
            ],
        ),
        "hours-of-the-default-partition": (
            {"jupyterhub_spawner": "slurm", "jupyterhub_slurm_partitions": [{"name": "main", "hours": 8}]},
            [f"jupyterhub_slurm_hours = 12.0 {TOO_LONG}"],
        ),
        "hours-that-nothing-reaches": (
            {
                "jupyterhub_spawner": "slurm",
                "jupyterhub_max_age": 25200,
                "jupyterhub_extension_limit": 3600,
                "jupyterhub_slurm_partitions": [{"name": "main", "hours": 8}],
            },
            [],
        ),
        "gpus": (
            {
                "jupyterhub_slurm_partitions": [{"name": "main", "gpus": 0}, {"name": "cards", "gpus": 2}],
                "jupyterhub_slurm_qos": ["normal", "high"],
                "jupyterhub_profiles": [
                    {"name": "a", "title": "A", "gpus": 1},
                    {"name": "b", "title": "B", "run_on": "slurm", "gpus": ["a100:1", 1], "partition": "cards"},
                    {"name": "c", "title": "C", "run_on": "slurm", "gpus": 1},
                    {"name": "d", "title": "D", "run_on": "slurm", "gpus": [0, 1, 2], "partition": ["main", "cards"]},
                    {"name": "e", "title": "E", "run_on": "slurm", "gpus": [1, 0], "partition": ["main", "cards"]},
                    {"name": "f", "title": "F", "run_on": "slurm", "gpus": [0, 4], "partition": "cards"},
                    {"name": "g", "title": "G", "run_on": "slurm", "gpus": 2, "partition": "cards", "qos": "high"},
                    {"name": "h", "title": "H", "run_on": "slurm", "qos": ["normal", "low"]},
                ],
            },
            [
                (
                    'jupyterhub_profiles[7].qos = ["normal", "low"] (h) has what is no QOS of the cluster. '
                    "Use normal, high, or add it to slurm_qos."
                ),
                *(
                    f"jupyterhub_profiles[{place}].gpus = {value} is more than a node of its partition has. Set "
                    "slurm_gpus of nodes, use a partition whose nodes have so many, or offer fewer."
                    for place, value in ((2, "1 (c)"), (4, "[1, 0] (e)"), (5, "[0, 4] (f)"))
                ),
                (
                    'jupyterhub_profiles[1].gpus = ["a100:1", 1] (b) is neither a number of GPUs nor a list of such '
                    "numbers. Write one such as 1, or a list such as [0, 1, 2] with the default in the first place."
                ),
                (
                    "jupyterhub_profiles[0].gpus = 1 (a) has no effect on the hub's own host. "
                    "Leave it out, or write run_on: slurm."
                ),
            ],
        ),
        "run-on-no-cluster": (
            {
                "jupyterhub_slurm_available": False,
                "jupyterhub_profiles": [{"name": "a", "title": "A", "run_on": "slurm"}],
            },
            [
                (
                    'jupyterhub_profiles[0].run_on = "slurm" (a) needs a cluster, and there is none. '
                    "Put hosts into the group compute, join a cluster (slurm_join), or write run_on: local."
                ),
            ],
        ),
        "slurm-port": (
            {"jupyterhub_spawner": "slurm", "jupyterhub_slurm_api_port": 8443},
            [f"jupyterhub_slurm_api_port = 8443 {PORT} 984 is usual."],
        ),
        "ports": (
            {"jupyterhub_port": 8000, "jupyterhub_proxy_api_port": 0, "jupyterhub_hub_port": 65536},
            [
                f"jupyterhub_port = 8000 {PORT} 980 is usual.",
                f"jupyterhub_proxy_api_port = 0 {PORT} 981 is usual.",
                f"jupyterhub_hub_port = 65536 {PORT} 982 is usual.",
            ],
        ),
        "ports-equal": (
            {"jupyterhub_port": 982, "jupyterhub_proxy_api_port": "982"},
            [
                (
                    'jupyterhub_proxy_api_port = "982" is the port of jupyterhub_port, too. '
                    "Give each a port of its own, such as 981 and 980."
                ),
                (
                    "jupyterhub_hub_port = 982 is the port of jupyterhub_port or jupyterhub_proxy_api_port, too. "
                    "Give each a port of its own, such as 982, 980 and 981."
                ),
            ],
        ),
        "database-driver": ({"jupyterhub_database_url": "mysql://hub:Secret1@db/hub"}, [DATABASE]),
        "database-old-driver": ({"jupyterhub_database_url": "postgresql://hub:Secret1@db/hub"}, [DATABASE]),
        "database-password": ({"jupyterhub_database_url": "postgresql+psycopg://hub:Sec@ret/1@db/hub"}, [DATABASE]),
        "database-none": ({"jupyterhub_database_url": "postgresql+psycopg://hub:Secret1@db"}, [DATABASE]),
        "database-line": ({"jupyterhub_database_url": "postgresql+psycopg://hub:Secret1@db/hub\n"}, [DATABASE]),
        "types": (
            {
                "jupyterhub_allowed_groups": "staff, lab",
                "jupyterhub_admin_users": [{"name": "alice"}],
                "jupyterhub_named_servers": "many",
                "jupyterhub_allow_sudo": "perhaps",
                "jupyterhub_environment": ["A=1"],
                "jupyterhub_cpu_limit": "two",
                "jupyterhub_group_limits": {"physics": {"memory": "1G"}},
                "jupyterhub_tasks_limit": 1.5,
            },
            [
                (f'jupyterhub_environment = ["A=1"] is a list, but a dictionary is needed. {README}'),
                f'jupyterhub_allow_sudo = "perhaps" is a text, but true or false is needed. {README}',
                (
                    'jupyterhub_allowed_groups = "staff, lab" is a text, but a list of texts is needed. '
                    f"Begin a line with a dash for each entry. {README}"
                ),
                f'jupyterhub_admin_users[0] = {{"name": "alice"}} is a dictionary, but a text is needed. {README}',
                f'jupyterhub_cpu_limit = "two" is a text, but a number is needed. {README}',
                f"jupyterhub_tasks_limit = 1.5 is a number, but a whole number is needed. {README}",
                (
                    'jupyterhub_group_limits = {"physics": {"memory": "1G"}} is a dictionary, '
                    f"but a list of dictionaries is needed. {README}"
                ),
                f'jupyterhub_named_servers = "many" is a text, but a whole number is needed. {README}',
            ],
        ),
        "choices": (
            {"jupyterhub_state": "presnt", "jupyterhub_spawner": "docker", "jupyterhub_log_level": "DEBUGG"},
            [
                'jupyterhub_state = "presnt" is none of present, absent. Did you mean present?',
                f'jupyterhub_spawner = "docker" is none of systemd, sudo, slurm. {README}',
                'jupyterhub_log_level = "DEBUGG" is none of DEBUG, INFO, WARNING, ERROR. Did you mean DEBUG?',
            ],
        ),
        "misspelt": (
            {"jupyterhub_admin_user": ["alice"], "jupyterhub_qqqqqqqqqqqqqqqqqqqq": 1},
            [
                "jupyterhub_admin_user is no setting of role jupyterhub. Did you mean jupyterhub_admin_users?",
                (
                    "jupyterhub_qqqqqqqqqqqqqqqqqqqq is no setting of role jupyterhub. "
                    "Its settings are listed in docs/reference/settings/jupyterhub.md."
                ),
            ],
        ),
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], list[str]]]:
    return cases(tmp_path_factory.mktemp("jupyterhub"))


def test_every_mistake_is_named_with_its_remedy(expected: dict[str, tuple[dict[str, Any], list[str]]]) -> None:
    assert answered_otherwise("jupyterhub", expected) == {}


def test_no_message_holds_a_secret(expected: dict[str, tuple[dict[str, Any], list[str]]]) -> None:
    assert not [text for _, texts in expected.values() for text in texts if "Secret1" in text]


def test_no_rule_is_left_unproved(expected: dict[str, tuple[dict[str, Any], list[str]]]) -> None:
    texts = [text for _, found in expected.values() for text in found]
    document = yaml.safe_load((ROOT / "roles/jupyterhub/meta/rules.yml").read_text())
    entries = [entry for entries in document.values() for entry in entries]
    # Some hold under a condition alone, together.
    for rule in [rule for entry in entries for rule in entry.get("rules", [entry])]:
        path = re.escape(rule["variable"]).replace(re.escape("[]"), r"\[.*\]")
        message = re.compile(rf"{path}( = .*)? {re.escape(rule['problem'])}\. ")
        assert any(message.match(text) for text in texts), f"{rule['variable']} {rule['problem']}"
