"""What role accounts tells sssd, from its own template."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from configparser import RawConfigParser, SectionProxy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.settings.validation import ROOT

ROLE = ROOT / "roles" / "accounts"
LDAP = {
    "accounts_directory": "ldap",
    "accounts_ldap_uris": ["ldap://ldap1.example.org", "ldaps://ldap2.example.org:1636"],
    "accounts_ldap_base_dn": "dc=example,dc=org",
    "accounts_allowed_groups": ["hub users", "staff"],
}
DOMAIN = {
    "accounts_directory": "ad",
    "accounts_ldap_uris": ["ldaps://dc1.ad.example.org", "ldap://dc2.ad.example.org:389"],
    "accounts_allowed_groups": ["hub users"],
    "accounts_kerberos_realm": "AD.EXAMPLE.ORG",
}
HOSTS: dict[str, dict[str, Any]] = {
    "ldap": LDAP,
    "insecure": {**LDAP, "accounts_ldap_allow_insecure": True},
    "everybody": {**LDAP, "accounts_allowed_groups": [], "accounts_allow_all": True},
    "domain": {**DOMAIN, "accounts_ldap_bind_dn": "reader@ad.example.org", "accounts_ad_id_mapping": False},
    "joined": {**DOMAIN, "accounts_ad_domain": "ad.example.org"},
}


@pytest.fixture(scope="module")
def sssd(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SectionProxy]:
    """Return what a host's sssd is told of the directory."""
    directory = tmp_path_factory.mktemp("sssd")
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {host: {} for host in HOSTS}}}))
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars": {
            "ansible_python_interpreter": sys.executable,
            "ansible_facts": {"os_family": "Debian", "distribution": "Debian", "distribution_major_version": "12"},
        },
        # Variables of a host would lose against those of a play's files, so they are a file, too.
        "vars_files": [
            f"{ROLE}/defaults/main.yml",
            f"{directory}/{{{{ inventory_hostname }}}}.yml",
            f"{ROLE}/vars/main.yml",
        ],
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/sssd.conf.j2') }}}}",
                    "dest": f"{directory}/{{{{ inventory_hostname }}}}.conf",
                    "mode": "0600",
                }
            }
        ],
    }
    for host, variables in HOSTS.items():
        (directory / f"{host}.yml").write_text(yaml.safe_dump(variables))
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", directory / "hosts.yml", directory / "play.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING": "false"},
        check=True,
        capture_output=True,
    )

    def read(host: str) -> SectionProxy:
        parser = RawConfigParser()
        parser.read_string(Path(directory, f"{host}.conf").read_text())
        return parser["domain/campus"]

    return read


def test_connections_are_encrypted_and_certificates_verified(sssd: Callable[[str], SectionProxy]) -> None:
    told = sssd("ldap")
    assert told["ldap_uri"] == "ldap://ldap1.example.org, ldaps://ldap2.example.org:1636"
    assert told["ldap_id_use_start_tls"] == "true"
    assert told["ldap_tls_reqcert"] == "demand"
    assert sssd("insecure")["ldap_tls_reqcert"] == "never"


def test_only_who_is_listed_gets_in(sssd: Callable[[str], SectionProxy]) -> None:
    told = sssd("ldap")
    assert (told["access_provider"], told["simple_allow_groups"]) == ("simple", "hub users, staff")
    assert sssd("everybody")["access_provider"] == "permit"


def test_active_directory_has_principals_unlike_mail_addresses(
    sssd: Callable[[str], SectionProxy],
) -> None:
    told = sssd("domain")
    assert (told["id_provider"], told["ldap_schema"], told["ldap_id_mapping"]) == ("ldap", "ad", "false")
    assert (told["ldap_force_upper_case_realm"], told["krb5_use_enterprise_principal"]) == ("true", "true")
    assert "krb5_use_enterprise_principal" not in sssd("ldap")


def test_a_joined_host_gets_the_servers_of_the_domain_by_name(sssd: Callable[[str], SectionProxy]) -> None:
    told = sssd("joined")
    assert (told["id_provider"], told["ad_domain"]) == ("ad", "ad.example.org")
    assert told["ad_server"] == "dc1.ad.example.org, dc2.ad.example.org"
    assert (told["subdomains_provider"], told["ad_enabled_domains"]) == ("ad", "ad.example.org"), (
        "else nobody has groups"
    )
    assert sssd("domain")["subdomains_provider"] == "none"
