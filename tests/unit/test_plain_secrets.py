"""A secret that stands in the inventory in plain text is pointed out, by its name and never by its value."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.settings import ROOT, facts

NAME = "accounts_ldap_bind_password"
SECRET = "gEheim123"


def vault(directory: Path, *arguments: str) -> str:
    """Encrypt with a password that lies in the directory."""
    (directory / "password").write_text("of the vault\n")
    command = [str(Path(sys.executable).with_name("ansible-vault")), *arguments]
    done = subprocess.run(
        [*command, "--vault-password-file", str(directory / "password")], capture_output=True, text=True, check=True
    )
    return done.stdout


def said(directory: Path) -> str:
    """Check the settings of the one host of an inventory, and return what Ansible printed."""
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"server": {}}}}))
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.set_fact": {**facts(), "cacheable": True}},
            {"ansible.builtin.include_role": {"name": "accounts", "tasks_from": "validate"}},
        ],
    }
    (directory / "check.yml").write_text(yaml.safe_dump([play]))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(directory / "hosts.yml")]
    command += ["--vault-password-file", str(directory / "password"), "-vvv", str(directory / "check.yml")]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "COLUMNS": "1000"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["plain", "through another variable", "encrypted value", "encrypted file", "none"])
def test_a_secret_in_plain_text_is_a_warning_that_names_ansible_vault(tmp_path: Path, kind: str) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "password").write_text("of the vault\n")
    file = tmp_path / "group_vars" / "all.yml"
    settings = {
        "accounts_directory": "ldap",
        "accounts_ldap_uris": ["ldaps://ldap.example.org"],
        "accounts_ldap_base_dn": "dc=example,dc=org",
        "accounts_allow_all": True,
        **({} if kind == "none" else {"accounts_ldap_bind_dn": "cn=reader,dc=example,dc=org"}),
    }
    text = yaml.safe_dump(settings)
    if kind == "encrypted value":
        text += vault(tmp_path, "encrypt_string", "--name", NAME, SECRET)
    elif kind == "through another variable":
        text += f'{NAME}: "{{{{ the_other }}}}"\nthe_other: {SECRET}\n'
    elif kind != "none":
        text += f"{NAME}: {SECRET}\n"
    file.write_text(text)
    if kind == "encrypted file":
        vault(tmp_path, "encrypt", str(file))
    printed = said(tmp_path)
    assert SECRET not in printed
    warning = f"{NAME} is in plain text in {file}. Encrypt it with Ansible Vault"
    assert (warning in " ".join(printed.split())) == (kind in ("plain", "through another variable")), printed
