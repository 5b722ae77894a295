"""What the playbooks tell the roles of one another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.settings.validation import ROOT, wired

INVENTORY: dict[str, Any] = {
    "all": {
        "children": {
            "hub": {"hosts": {"hub1": {}}},
            "compute": {"hosts": {"node1": {}, "node2": {"cvmfs_proxies": ["http://own.example.org:3128"]}}},
            "cvmfs_clients": {
                "hosts": {"hub1": {}, "node2": {}},
                "vars": {
                    "cvmfs_repositories": ["sft.cern.ch"],
                    "cvmfs_own_repositories": [
                        {
                            "name": "software.example.org",
                            "server_urls": [
                                "http://stratum1.example.org:8000/cvmfs/@fqrn@",
                                "http://192.0.2.9/cvmfs/@fqrn@",
                            ],
                        }
                    ],
                    "cvmfs_own_domains": [
                        {"name": "example.net", "server_urls": ["http://s1.example.net/cvmfs/@fqrn@"]}
                    ],
                },
            },
            "eos_clients": {
                "hosts": {
                    "hub1": {"eos_instances": [{"auth": "krb5"}]},
                    "node2": {"eos_instances": [{"auth": "oauth2"}]},
                }
            },
            "squid": {
                "hosts": {
                    "cache1": {"ansible_host": "192.0.2.3"},
                    "cache2": {"squid_address": "2001:db8::4", "squid_port": 8888},
                    "cache3": {},
                }
            },
        }
    }
}
LISTS = ("cvmfs_proxies", "squid_own_destinations", "jupyter_cvmfs_repositories")
NAMES = (*LISTS, "jupyterhub_oidc_token_format")


def test_clients_use_all_caches_and_caches_reach_all_servers(tmp_path: Path) -> None:
    found = wired(tmp_path, INVENTORY, NAMES)
    caches = ["http://192.0.2.3:3128|http://[2001:db8::4]:8888|http://cache3:3128"]
    assert found["hub1"]["cvmfs_proxies"] == caches
    assert found["node2"]["cvmfs_proxies"] == ["http://own.example.org:3128"]
    assert found["cache1"]["squid_own_destinations"] == ["stratum1.example.org", "192.0.2.9", "s1.example.net"]
    assert found["hub1"]["jupyter_cvmfs_repositories"] == ["sft.cern.ch", "software.example.org"]
    assert found["node1"]["jupyter_cvmfs_repositories"] == []


def test_servers_get_tokens_where_an_instance_wants_them(tmp_path: Path) -> None:
    found = {host: said["jupyterhub_oidc_token_format"] for host, said in wired(tmp_path, INVENTORY, NAMES).items()}
    assert {host for host, said in found.items() if said} == {"node2"}
    assert found["node2"] == "oauth2:{token}:{userinfo}"


def test_desktops_run_in_a_cluster_whose_nodes_all_have_displays(tmp_path_factory: pytest.TempPathFactory) -> None:
    hosts: dict[str, Any] = {"hub": {"hosts": {"hub1": {}}}, "compute": {"hosts": {"node1": {}, "node2": {}}}}
    names = ["jupyterhub_displays", "jupyterhub_slurm_displays", "jupyterhub_applications"]

    def said(displays: list[str], **variables: Any) -> list[Any]:
        groups = {**hosts, "displays": {"hosts": {host: {} for host in displays}}}
        inventory = {"all": {"children": groups, "vars": variables}}
        found = wired(tmp_path_factory.mktemp("inventory"), inventory, names)
        return [found["hub1"][name] for name in names]

    assert said(["hub1", "node1", "node2"]) == [True, True, ["terminal"]]
    assert said(["node1", "node2"]) == [False, True, ["terminal"]]
    assert said(["hub1", "node1"]) == [True, False, ["terminal"]]
    assert said(["node1"], slurm_nodes=["node1"]) == [False, True, ["terminal"]]
    # Nobody here knows what the nodes of another's cluster have.
    assert said([], slurm_join=True) == [False, True, []]


def test_mounts_are_watched_once(tmp_path: Path) -> None:
    """The metrics of a mount that two watches know would be refused."""
    hosts = {"both": {}, "none": {"homes_watch": "none"}, "absent": {"homes_state": "absent"}}
    inventory = {
        "all": {
            "children": {
                "eos_clients": {"hosts": {**hosts, "data": {}}},
                "network_homes": {"hosts": hosts, "vars": {"homes_mount_point": "/eos/user"}},
            }
        }
    }
    found = wired(tmp_path, inventory, ["eos_watched_elsewhere"])
    assert {host: said["eos_watched_elsewhere"] for host, said in found.items()} == {
        "both": "/eos/user",
        "none": "",
        "absent": "",
        "data": "",
    }


def test_the_hub_has_the_names_that_nginx_serves(tmp_path: Path) -> None:
    hosts = {
        "hub1": {"web_user_subdomains": True},
        "hub2": {"web_user_subdomains": "yes", "web_server_name": "hub.example.org", "web_https_port": "8443"},
        "hub3": {"web_user_subdomains": True, "web_server_name": "localhost", "web_public_port": 9443},
        "hub4": {"web_user_subdomains": False},
    }
    found = wired(tmp_path, {"all": {"children": {"hub": {"hosts": hosts}}}}, ["jupyterhub_subdomain_host"])
    assert {host: said["jupyterhub_subdomain_host"] for host, said in found.items()} == {
        "hub1": "https://hub1",
        "hub2": "https://hub.example.org:8443",
        "hub3": "https://localhost:9443",
        "hub4": "",
    }


def test_without_the_groups_nothing_is_said(tmp_path: Path) -> None:
    found = wired(tmp_path, {"all": {"children": {"hub": {"hosts": {"hub1": {}}}}}}, NAMES)
    assert found["hub1"] == {**{name: [] for name in LISTS}, "jupyterhub_oidc_token_format": ""}


def test_any_inventory_wins_over_the_wiring(tmp_path: Path) -> None:
    """The playbooks' variables for the group `all` are above those of an inventory, in Ansible's own order."""
    inventory = {
        "all": {
            "vars": {"web_upstream_url": "http://127.0.0.1:1"},
            "children": {
                "hub": {
                    "vars": {"jupyterhub_create_homes": True},
                    "hosts": {"hub1": {"cvmfs_proxies": ["http://own.example.org:3128"]}},
                },
                "compute": {"hosts": {"node1": {"jupyterhub_trusted_proxy_secret": False}, "node2": {}}},
                "squid": {"hosts": {"cache1": {}}},
            },
        }
    }
    names = ("web_upstream_url", "web_proxy_secret_file", "jupyterhub_create_homes", "cvmfs_proxies")
    found = wired(tmp_path, inventory, names)
    own, shared = ["http://own.example.org:3128"], ["http://cache1:3128"]
    file = "/etc/jupyterhub/secrets/proxy-secret.conf"
    assert list(found["hub1"].values()) == ["http://127.0.0.1:1", file, True, own]
    # A wired setting that another one depends on counts as the inventory has it.
    assert list(found["node1"].values()) == ["http://127.0.0.1:1", "", False, shared]
    assert list(found["node2"].values()) == ["http://127.0.0.1:1", file, False, shared]


def test_each_wired_setting_has_its_wiring_as_default() -> None:
    page = yaml.safe_load((ROOT / "playbooks/group_vars/all.yml").read_text())
    roles = {role.removesuffix("_wiring"): names for role, names in page.items() if role.endswith("_wiring")}
    wiring = {f"{role}_{name}" for role, names in roles.items() for name in names}
    reading = re.compile(r"^(\w+)_(\w+): \"{{ \1_wiring\.\2 \| default\(.*\) }}\"$", re.MULTILINE)
    found = [reading.findall(path.read_text()) for path in ROOT.glob("roles/*/defaults/main.yml")]
    assert {f"{role}_{name}" for pairs in found for role, name in pairs} == wiring
    assert "precedence" not in (ROOT / "ansible.cfg").read_text()


GROUPS = {"hub", "compute", "slurm_controller", "displays", "cvmfs_clients", "squid", "eos_clients", "network_homes"}


def applied(playbook: str) -> dict[str, set[str]]:
    """Return the groups on whose hosts a playbook applies each role, or removes it."""
    found: dict[str, set[str]] = {}
    for play in yaml.safe_load((ROOT / playbook).read_text()):
        hosts = set(str(play.get("hosts", "")).split(":"))
        for task in play.get("tasks", []):
            included = [task]
            if "ansible.builtin.include_tasks" in task:
                included = yaml.safe_load((ROOT / task["ansible.builtin.include_tasks"]).read_text())
            for entry in included:
                role = (
                    entry.get("ansible.builtin.import_role") or entry.get("ansible.builtin.include_role") or {}
                ).get("name")
                condition = task.get("when", "")
                # A condition names groups within those of the play: one, or a list.
                named = set(re.findall(r"'(\w+)'", str(condition))) & GROUPS
                narrowed = named if named and "or '" not in condition else GROUPS if "all" in hosts else hosts
                if role:
                    found.setdefault(role, set()).update(narrowed)
    return found


def test_roles_are_checked_applied_and_removed_on_the_same_hosts(tmp_path: Path) -> None:
    (checked,) = (
        play["vars"]
        for play in yaml.safe_load((ROOT / "playbooks/preflight.yml").read_text())
        if "preflight_roles" in play.get("vars", {})
    )
    settings = {name: checked[name] for name in ("preflight_hub", "preflight_work", "preflight_roles")}
    hosts = {group: {"hosts": {f"h-{group}": settings}} for group in GROUPS}
    said = wired(tmp_path, {"all": {"children": hosts}}, ["preflight_roles"])
    of_preflight: dict[str, set[str]] = {}
    for host, found in said.items():
        for role in found["preflight_roles"]:
            of_preflight.setdefault(role, set()).add(host.removeprefix("h-"))
    of_site, of_removal = applied("site.yml"), applied("playbooks/remove.yml")
    assert len(of_site) == 11
    assert of_preflight == of_site
    # Accounts go with the files that every host has.
    assert of_removal == {**of_site, "accounts": GROUPS}
