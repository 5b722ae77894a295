"""A secret that stands in the inventory in plain text is pointed out, by its name and never by its value."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.settings.validation import ROOT, facts

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


KINDS = {
    # Whether it is pointed out.
    "plain": True,
    "through_another_variable": True,
    "encrypted_value": False,
    "encrypted_file": False,
    "none": False,
}


def write(directory: Path, kind: str) -> Path:
    """Write the settings of a host that is called like the way in which its secret is kept; return the file."""
    file = directory / "host_vars" / f"{kind}.yml"
    settings = {
        "accounts_directory": "ldap",
        "accounts_ldap_uris": ["ldaps://ldap.example.org"],
        "accounts_ldap_base_dn": "dc=example,dc=org",
        "accounts_allow_all": True,
        **({} if kind == "none" else {"accounts_ldap_bind_dn": "cn=reader,dc=example,dc=org"}),
    }
    text = yaml.safe_dump(settings)
    if kind == "encrypted_value":
        text += vault(directory, "encrypt_string", "--name", NAME, SECRET)
    elif kind == "through_another_variable":
        text += f'{NAME}: "{{{{ the_other }}}}"\nthe_other: {SECRET}\n'
    elif kind != "none":
        text += f"{NAME}: {SECRET}\n"
    file.write_text(text)
    if kind == "encrypted_file":
        vault(directory, "encrypt", str(file))
    return file


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("inventory")
    (made / "host_vars").mkdir()
    return made


@pytest.fixture(scope="module")
def files(directory: Path) -> dict[str, Path]:
    return {kind: write(directory, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def printed(directory: Path, files: dict[str, Path]) -> str:
    """Check the settings of all hosts, and return what Ansible printed."""
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {kind: {} for kind in files}}}))
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


def test_no_secret_is_shown(printed: str) -> None:
    assert SECRET not in printed


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_in_plain_text_is_a_warning(printed: str, files: dict[str, Path], kind: str) -> None:
    warning = f"{NAME} is in plain text in {files[kind]}. Encrypt it with Ansible Vault"
    assert (warning in " ".join(printed.split())) == KINDS[kind], printed
