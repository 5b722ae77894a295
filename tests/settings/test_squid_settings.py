"""Every message of role squid about its settings, good ones, and the configuration of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.settings.validation import answered_otherwise, facts, rendered

SUPPORTED = (
    "is not supported. Use Debian 12 or 13, Ubuntu 22.04 or 24.04, or Enterprise Linux 9 or 10 "
    "(RHEL, Rocky, AlmaLinux, CentOS Stream, Oracle)."
)
NETWORK = "is not a network. Give one like 10.20.0.0/16 or 2001:db8::/32, or a single address."
WORLD = "is the whole world. Name the networks of the site; a cache for everybody is soon found and misused."
SERVER = (
    "is no name of a server. Write it without protocol and port, such as stratum1.example.org, .example.org for a "
    "domain, or an address."
)


def settings(**others: Any) -> dict[str, Any]:
    return {"squid_client_networks": ["10.20.0.0/16"], **others}


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "debian11": (settings(facts=facts("Debian", "11", "bullseye")), [f'distribution = "Debian 11" {SUPPORTED}']),
    "address": (
        settings(squid_address="http://cache1.example.org"),
        [
            (
                'squid_address = "http://cache1.example.org" is no name of a host. Write it such as '
                "cache1.example.org, or an address; leave it empty for the one by which Ansible reaches the host."
            )
        ],
    ),
    "port": (
        settings(squid_port=70000),
        ["squid_port = 70000 is not a port. Give a number from 1 to 65535; 3128 is usual."],
    ),
    "nobody": (
        {},
        [
            (
                "squid_client_networks = [] is empty, so that no client could use the cache. "
                "Name the networks of the hosts in cvmfs_clients, such as 10.20.0.0/16."
            )
        ],
    ),
    "networks": (
        settings(squid_client_networks=["10.0.0.0/33", "all", "192.0.2.1", "2001:db8::/32", "10.0.0.0/8\nallow all"]),
        [
            f'squid_client_networks[0] = "10.0.0.0/33" {NETWORK}',
            f'squid_client_networks[1] = "all" {NETWORK}',
            f'squid_client_networks[4] = "10.0.0.0/8\\nallow all" {NETWORK}',
        ],
    ),
    "world": (
        settings(squid_client_networks=["0.0.0.0/0", "::/0"]),
        [f'squid_client_networks[0] = "0.0.0.0/0" {WORLD}', f'squid_client_networks[1] = "::/0" {WORLD}'],
    ),
    "nowhere": (
        settings(squid_destinations=[]),
        [
            (
                "squid_destinations = [] is empty, so that no server could be reached. "
                "Name the servers of the repositories, such as cvmfs-stratum-one.cern.ch."
            )
        ],
    ),
    "destinations": (
        settings(
            squid_destinations=["http://a.example.org", "a.example.org:8000", ".example.org", "*.org", "192.0.2.9"]
        ),
        [
            f'squid_destinations[0] = "http://a.example.org" {SERVER}',
            f'squid_destinations[1] = "a.example.org:8000" {SERVER}',
            f'squid_destinations[3] = "*.org" {SERVER}',
        ],
    ),
    "own-destinations": (
        settings(squid_own_destinations=["a b"]),
        [f'squid_own_destinations[0] = "a b" {SERVER}'],
    ),
    "destination-ports": (
        settings(squid_destination_ports=[80, 0]),
        ["squid_destination_ports[1] = 0 is not a port. Give a number from 1 to 65535."],
    ),
    "no-ports": (
        settings(squid_destination_ports=[]),
        ["squid_destination_ports = [] is empty. Give the ports of the servers, such as [80, 8000]."],
    ),
    "directory": (
        settings(squid_cache_directory="/var/my cache"),
        [
            (
                'squid_cache_directory = "/var/my cache" is no absolute path of letters, digits, dots and hyphens. '
                "Write the whole path, such as /var/spool/squid."
            )
        ],
    ),
    "memory": (
        settings(squid_memory_mb=8),
        ["squid_memory_mb = 8 is too small. Give at least 32 megabytes."],
    ),
    "disk": (
        settings(squid_disk_mb=100, squid_object_mb=50),
        ["squid_disk_mb = 100 is too small. Give at least 500 megabytes."],
    ),
    "object": (
        settings(squid_object_mb=20000),
        [
            (
                "squid_object_mb = 20000 is no size of an object that the cache could hold. "
                "Give megabytes, from 1 to those of squid_disk_mb."
            )
        ],
    ),
    "log": (settings(squid_log_days=0), ["squid_log_days = 0 is no number of days. Give at least 1."]),
    "unit": (
        settings(squid_disk_mb="10GB"),
        ['squid_disk_mb = "10GB" is a text, but a whole number is needed. See docs/reference/settings/squid.md.'],
    ),
    "misspelt": (
        settings(squid_networks=[]),
        ["squid_networks is no setting of role squid. Did you mean squid_client_networks?"],
    ),
}

GOOD: dict[str, dict[str, Any]] = {
    "plain": settings(),
    "rocky9": settings(facts=facts("Rocky", "9.5", "Blue Onyx")),
    "absent": {"squid_state": "absent"},
    "everything": settings(
        squid_port=8888,
        squid_client_networks=["10.20.0.0/16", "2001:db8::/32", "192.0.2.1"],
        squid_destinations=[
            "a.example.org",
            ".example.org",
            "EXAMPLE.org",
            "b.example.com",
            "192.0.2.9",
            ".sub.example.org",
        ],
        squid_own_destinations=["stratum1.example.net", "b.example.com", "2001:db8::9"],
        squid_destination_ports=[80],
        squid_cache_directory="/srv/squid",
        squid_memory_mb=512,
        squid_disk_mb=50000,
        squid_object_mb=2048,
        squid_log_days=30,
        squid_address="2001:db8::3",
    ),
}


def test_bad_settings_are_named_with_a_remedy_and_good_ones_pass() -> None:
    good: dict[str, tuple[dict[str, Any], list[str]]] = {name: (settings, []) for name, settings in GOOD.items()}
    assert answered_otherwise("squid", BAD | good) == {}


@pytest.fixture(scope="module")
def configurations() -> dict[str, str]:
    files = rendered("squid", {name: given for name, given in GOOD.items() if name != "absent"}, "__squid_files")
    return {name: file["/etc/squid/squid.conf"] for name, file in files.items()}


def directives(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_nothing_is_allowed_but_clients_and_servers(configurations: dict[str, str]) -> None:
    for text in configurations.values():
        access = [" ".join(words[1:]) for words in directives(text) if words[0] == "http_access"]
        assert access[:3] == ["deny manager", "deny !server_ports", "deny !reading"]
        assert access[-1] == "deny all"
        assert not [rule for rule in access if rule.startswith("allow") and "all" in rule.split()[1:]]


def test_servers_are_listed_once(configurations: dict[str, str]) -> None:
    """A domain beside one that has it within is an error to squid."""
    lists = {words[1]: words[2:] for words in directives(configurations["everything"]) if words[0] == "acl"}
    assert lists["servers"] == ["dstdomain", "-n", ".example.org", "b.example.com", "stratum1.example.net"]
    assert lists["addresses"] == ["dst", "-n", "192.0.2.9", "2001:db8::9"]
    assert lists["clients"] == ["src", "10.20.0.0/16", "2001:db8::/32", "192.0.2.1"]


def test_servers_of_the_config_repository_are_among_the_defaults(configurations: dict[str, str]) -> None:
    lists = {words[1]: words[2:] for words in directives(configurations["plain"]) if words[0] == "acl"}
    assert {"cvmfs-stratum-one.cern.ch", ".opensciencegrid.org"} <= set(lists["servers"])
    assert "addresses" not in lists


def test_sizes_and_forwarding(configurations: dict[str, str]) -> None:
    settings = {words[0]: " ".join(words[1:]) for words in directives(configurations["everything"])}
    assert settings["collapsed_forwarding"] == "on"
    assert settings["minimum_expiry_time"] == "0 seconds"
    assert settings["maximum_object_size"] == "2048 MB"
    assert settings["cache_mem"] == "512 MB"
    assert settings["cache_dir"] == "aufs /srv/squid 50000 16 256"
    assert settings["http_port"] == "8888"
