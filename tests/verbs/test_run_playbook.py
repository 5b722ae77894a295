"""What the launcher says of an inventory that Ansible cannot read, of an interruption, and of what comes next."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOSTS = "all: {children: {hub: {hosts: {here: {ansible_connection: local}}}}}\n"
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: it ran}
"""
ENCRYPTED = "$ANSIBLE_VAULT;1.1;AES256\n3031\n"
ENCRYPTED_VALUE = "web_acme_eab_hmac_key: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3031\n"


class Site:
    """A directory with an inventory and a playbook, in the place of the checkout."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("inventories/my-site/hosts.yml", HOSTS)
        self.play("preflight")

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def play(self, name: str, text: str = PLAYBOOK) -> None:
        """Say what is run."""
        self.playbook = f"{name}.yml"
        self.write(self.playbook, text)

    def command(self, *options: str) -> list[str]:
        """Return how the launcher begins a run."""
        program = Path(sys.executable).with_name("ansible-playbook")
        script = ROOT / "plugins" / "run_playbook.py"
        return [sys.executable, "-P", str(script), "./campushub", str(program), self.playbook, *options]

    def run(self, *options: str, **environment: str) -> tuple[int, str]:
        """Run it, and return the status and what was printed."""
        run = subprocess.run(
            self.command(*options),
            cwd=self.directory,
            env={**surroundings(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return run.returncode, run.stdout


def surroundings() -> dict[str, str]:
    """Return an environment that says nothing of inventories and passwords."""
    own = {name: value for name, value in os.environ.items() if not re.match("ANSIBLE_(VAULT|INVENTORY|ASK)", name)}
    return {**own, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "true", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [b]\nc:\n  - d\n  e: f\n", "line 4: did not find expected '-' indicator"),
        ("a: 1\nweb_server_name hub\nb: 2\n", "line 3: could not find expected ':'"),
        ('a: 1\nb: "c\nd: e\n', "a quoted scalar that begins in line 2"),
        ("a: 1\nb:\n\tc: 1\n", "line 3: found character"),
        ("a: 1\nb: {{ c }}/d\n", "line 2: did not find expected key"),
        ("a: 1\nb: \x01\n", "line 2: control characters are not allowed"),
        ("a: *b\n", "line 1: found undefined alias"),
    ],
)
def test_a_slip_in_yaml_is_named_with_file_and_line(site: Site, text: str, words: str) -> None:
    site.write("inventories/my-site/group_vars/hub/own.yml", text)
    status, output = site.run("-i", "inventories/my-site")
    assert status == 1
    assert output.startswith("campushub: inventories/my-site/group_vars/hub/own.yml, line ")
    assert words in output
    assert "it ran" not in output


@pytest.mark.parametrize("inventory", ["inventories/my-site", "inventories/my-site/hosts.yml"])
def test_all_files_of_an_inventory_are_read(site: Site, inventory: str) -> None:
    names = ["hosts.yml", "group_vars/all", "group_vars/hub.yaml", "host_vars/here/x.yml"]
    for name in names:
        site.write(f"inventories/my-site/{name}", "a:\n- b\nc\n")
    status, output = site.run("-i", inventory)
    assert status == 1
    assert all(f"inventories/my-site/{name}, line " in output for name in names)


def test_what_ansible_reads_is_no_mistake(site: Site) -> None:
    site.write("inventories/my-site/group_vars/all.yml", f'a: !unsafe "{{{{ x }}}}"\n{ENCRYPTED_VALUE}')
    site.write("inventories/my-site/group_vars/hub.yml", '{\n\t"a": 1}\n')
    site.write("inventories/my-site/group_vars/other/notes.txt", "a: b: c")
    site.write("inventories/my-site/group_vars/.hidden.yml", "a: b: c")
    site.write("inventories/my-site/files/template.yml", "a: {{ b }}: c")
    site.play("status")
    status, output = site.run("-i", "inventories/my-site")
    assert (status, "it ran" in output) == (0, True), output


def test_a_missing_inventory_is_answered_with_those_there_are(site: Site) -> None:
    site.write("inventories/single-server/hosts.yml", HOSTS)
    expected = (
        "campushub: there is no inventories/mysite. Did you mean inventories/my-site?"
        " In inventories there are: my-site, single-server.\n"
    )
    assert site.run("-i", "inventories/mysite") == (1, expected)
    assert site.run("--inventory=inventories/mysite") == (1, expected)
    assert site.run(ANSIBLE_INVENTORY="inventories/mysite") == (1, expected)
    # Those of the checkout, where nothing is beside it.
    status, output = site.run("-i", "nowhere/mysite")
    assert status == 1
    assert re.search(rf"there is no nowhere/mysite\. In {ROOT}/inventories there are: .*single-server", output)


def test_lists_of_hosts_are_no_directories(site: Site) -> None:
    status, output = site.run("-i", "here,", "-c", "local")
    assert (status, "it ran" in output) == (0, True), output


@pytest.mark.parametrize("options", [["-i"], ["-i", "--check"]])
def test_an_option_without_its_value_is_named(site: Site, options: list[str]) -> None:
    expected = "campushub: -i needs a value, such as: -i inventories/single-server\n"
    assert site.run(*options) == (1, expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [("all/vault.yml", ENCRYPTED), ("all/vault", ENCRYPTED), ("all.yml", f"# a comment\n{ENCRYPTED_VALUE}")],
)
def test_a_password_that_is_not_given_is_asked_for(site: Site, name: str, text: str) -> None:
    site.write(f"inventories/my-site/group_vars/{name}", text)
    file = f"inventories/my-site/group_vars/{name}"
    expected = (
        f"campushub: the inventory has encrypted values ({file}): add --ask-vault-pass, or --vault-password-file FILE\n"
    )
    assert site.run("-i", "inventories/my-site") == (1, expected)
    site.write("password", "secret\n")
    (site.directory / "password").chmod(0o600)
    for options in (["--vault-password-file", "password"], ["--vault-id=password"], ["-J"], ["-KJ"], ["-JK"]):
        assert expected not in site.run("-i", "inventories/my-site", *options)[1]
    for variable in ("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST"):
        assert expected not in site.run("-i", "inventories/my-site", **{variable: "password"})[1]


def test_values_that_a_verb_does_not_use_need_no_password(site: Site) -> None:
    site.write("inventories/my-site/group_vars/all.yml", ENCRYPTED_VALUE)
    site.play("status")
    assert site.run("-i", "inventories/my-site")[0] == 0
    site.play("upgrade")
    assert "add --ask-vault-pass" in site.run("-i", "inventories/my-site")[1]


def test_preflight_without_mistakes_says_what_comes_next(site: Site) -> None:
    words = "No mistakes found; nothing was changed. Next: ./campushub install -i inventories/my-site\n"
    status, output = site.run("-i", "inventories/my-site")
    assert status == 0
    assert output.endswith(words)
    assert words not in site.run("-i", "inventories/my-site", "--list-hosts")[1]
    site.play("status")
    assert words not in site.run("-i", "inventories/my-site")[1]
    site.play("preflight", PLAYBOOK.replace("debug", "fail"))
    status, output = site.run("-i", "inventories/my-site")
    assert status == 2
    assert words not in output


def test_an_interrupted_run_says_how_to_go_on(site: Site) -> None:
    started = site.directory / "started"
    wait = f"{shutil.which('touch')} {started}; exec sleep 60"
    site.play("site", PLAYBOOK.replace("debug: {msg: it ran}", f"shell: {wait}"))
    command = site.command("-i", "inventories/my-site", "-e", f"ansible_python_interpreter={sys.executable}")
    with subprocess.Popen(
        command,
        cwd=site.directory,
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        end = time.monotonic() + 60
        while not started.exists() and time.monotonic() < end and run.poll() is None:
            time.sleep(0.1)
        # As a terminal does, to all that runs in the foreground.
        os.killpg(run.pid, signal.SIGINT)
        output = run.communicate(timeout=60)[0]
    assert started.exists(), output
    assert run.returncode == 99
    assert output.endswith("\nInterrupted. Run the same command again: it goes on where it was.\n")
