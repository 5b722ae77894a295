"""What the playbooks tell the roles of one another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.settings.answers import ROOT

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


def wired(scratch: Path, inventory: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each host is told."""
    (scratch / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (scratch / "answers").mkdir()
    message = "{{ {" + ", ".join(f"'{name}': {name}" for name in NAMES) + "} | to_json }}"
    command: list[str | Path] = [
        "-i",
        scratch / "hosts.yml",
        "--playbook-dir",
        ROOT / "playbooks",
        "--tree",
        scratch / "answers",
    ]
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "ansible",
            "adhoc",
            "all",
            *command,
            "-m",
            "ansible.builtin.debug",
            "-a",
            f'msg="{message}"',
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = {}
    for path in (scratch / "answers").iterdir():
        said = json.loads(path.read_text())["msg"]
        found[path.name] = json.loads(said) if isinstance(said, str) else said
    return found


def test_clients_use_all_caches_and_caches_reach_all_servers(tmp_path: Path) -> None:
    found = wired(tmp_path, INVENTORY)
    caches = ["http://192.0.2.3:3128|http://[2001:db8::4]:8888|http://cache3:3128"]
    assert found["hub1"]["cvmfs_proxies"] == caches
    assert found["node2"]["cvmfs_proxies"] == ["http://own.example.org:3128"]
    assert found["cache1"]["squid_own_destinations"] == ["stratum1.example.org", "192.0.2.9", "s1.example.net"]
    assert found["hub1"]["jupyter_cvmfs_repositories"] == ["sft.cern.ch", "software.example.org"]
    assert found["node1"]["jupyter_cvmfs_repositories"] == []


def test_servers_get_tokens_where_an_instance_wants_them(tmp_path: Path) -> None:
    found = {host: said["jupyterhub_oidc_token_format"] for host, said in wired(tmp_path, INVENTORY).items()}
    assert {host for host, said in found.items() if said} == {"node2"}
    assert found["node2"] == "oauth2:{token}:{userinfo}"


def test_without_the_groups_nothing_is_said(tmp_path: Path) -> None:
    found = wired(tmp_path, {"all": {"children": {"hub": {"hosts": {"hub1": {}}}}}})
    assert found["hub1"] == {**{name: [] for name in LISTS}, "jupyterhub_oidc_token_format": ""}
