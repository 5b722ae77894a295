"""The launcher on machines that lack something: it says what and how to get it, before anything starts."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What every Debian has, whatever else is installed.
ESSENTIAL = (
    *("awk", "basename", "bash", "cat", "chmod", "cut", "dirname", "env", "flock", "grep", "locale", "mkdir"),
    *("readlink", "rm", "sed", "sha256sum", "stat", "tail"),
)
DEBIAN = {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}
VERBS = ("install", "demo", "test")


class Machine:
    """A machine made of links to programs, stubs and a copy of the checkout's launcher."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.checkout = directory / "checkout"
        self.calls = directory / "calls"
        self.os_release = directory / "os-release"
        self.describe(DEBIAN)
        for name in ESSENTIAL:
            if found := shutil.which(name):
                (self.bin / name).symlink_to(found)
        self.space(100)
        self.stub("id", 'if [ "$1" = -u ]; then echo 1000; else echo alice; fi')
        shutil.copytree(
            ROOT,
            self.checkout,
            ignore=shutil.ignore_patterns(".git", ".venv*", ".state", "*cache*", "node_modules", "roles", "files"),
        )

    def describe(self, release: dict[str, str]) -> None:
        """Say what distribution the machine has."""
        self.os_release.write_text("".join(f'{key}="{value}"\n' for key, value in release.items()))

    def stub(self, name: str, script: str = "") -> None:
        """Put a program there that only notes that it was called, and then runs a script."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.calls}"\n{script}\n')
        path.chmod(0o755)

    def space(self, gigabytes: int) -> None:
        """Say how much disk is free."""
        free = gigabytes * 1024 * 1024
        self.stub("df", f'echo "Filesystem 1024-blocks Used Available Capacity Mounted"; echo "/dev/x 0 0 {free} 0% /"')

    def provide(self, *names: str) -> None:
        """Link real programs."""
        for name in names:
            (self.bin / name).symlink_to(str(shutil.which(name)))

    def python(self, version: str = "3, 12", name: str = "python3", venv: bool = True) -> None:
        """Put a Python there that answers the launcher's questions as that version would."""
        real = shutil.which("python3")
        self.stub(
            name,
            f"""case "$*" in
              *"import venv"*) exit {0 if venv else 1} ;;
              *sys.version_info*) exec {real} -c "import sys; sys.version_info = ({version}, 0); ${{2#import sys; }}" ;;
              "-m venv "*)
                mkdir -p "$3/bin"
                for program in python ansible-playbook; do
                  printf '#!/bin/bash\\necho "$0 $*" >>"{self.calls}"\\n' >"$3/bin/$program"; chmod +x "$3/bin/$program"
                done
                # What is said of an inventory is tested in test_run_playbook.py.
                sed -i '2i if [ "$1" = -P ]; then shift 3; exec "$@"; fi' "$3/bin/python" ;;
              *) exec {real} "$@" ;;
            esac""",
        )

    def complete(self) -> None:
        """Give it all that the demo needs."""
        self.python()
        for name in ("ssh", "podman", "mmdebstrap", "runc", "apt-get", "sudo"):
            self.stub(name)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Call the launcher from another directory, without a terminal."""
        return subprocess.run(
            [str(self.checkout / "campushub"), *arguments],
            cwd="/",
            env={
                "PATH": str(self.bin),
                "HOME": str(self.bin.parent),
                "CAMPUSHUB_OS_RELEASE": str(self.os_release),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def called(self) -> list[str]:
        """Return what was called."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@contextmanager
def listener() -> Iterator[int]:
    """Take a port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def test_help_describes_every_verb_by_its_playbook(machine: Machine) -> None:
    answer = machine.run()
    assert answer.returncode == 0
    for playbook in (ROOT / "playbooks").glob("*.yml"):
        sentence = re.search(r"^# (.*)", playbook.read_text(), re.MULTILINE)
        assert sentence, f"{playbook} does not say in its first comment what it is for"
        assert re.search(rf"^  {playbook.stem} +{re.escape(sentence[1])}$", answer.stdout, re.MULTILINE)
    for verb in VERBS:
        assert re.search(rf"^  {verb} ", answer.stdout, re.MULTILINE)


def test_version_is_that_of_the_checkout(machine: Machine) -> None:
    answer = machine.run("--version")
    assert (answer.returncode, answer.stdout) == (0, f"CampusHub {(ROOT / 'VERSION').read_text()}")


def test_unknown_verb_is_answered_with_the_verbs_there_are(machine: Machine) -> None:
    for verb in ("instal", "../site", "tasks/x"):
        answer = machine.run(verb)
        assert answer.returncode == 2
        assert answer.stderr.startswith(f"campushub: there is no verb '{verb}'.\n\n  install ")
    machine.python()
    assert "there is no verb 'instal'. Did you mean install?\n" in machine.run("instal").stderr
    assert "there is no verb 'x'.\n" in machine.run("x").stderr


@pytest.mark.parametrize("verb", VERBS)
def test_old_python_is_named_with_the_command_to_install_another(machine: Machine, verb: str) -> None:
    machine.complete()
    machine.python("3, 10")
    machine.describe({"ID": "ubuntu", "VERSION_ID": "22.04", "PRETTY_NAME": "Ubuntu 22.04"})
    answer = machine.run(verb)
    assert answer.returncode == 1
    assert "Python 3.11 or newer (python3 is 3.10 here)" in answer.stderr
    assert (
        "sudo apt-get update && sudo apt-get install --no-install-recommends python3.11 python3.11-venv"
        in answer.stderr
    )


def test_a_distribution_without_a_new_python_is_refused(machine: Machine) -> None:
    machine.complete()
    machine.python("3, 9")
    machine.describe({"ID": "debian", "VERSION_ID": "11", "PRETTY_NAME": "Debian GNU/Linux 11 (bullseye)"})
    answer = machine.run("install", "-i", "inventories/single-server")
    assert answer.returncode == 1
    assert (
        "Python 3.11 or newer is needed (python3 is 3.9 here), and Debian GNU/Linux 11 (bullseye) has no"
        in answer.stderr
    )
    assert "Debian 12 or 13" in answer.stderr


def test_newer_python_beside_an_old_one_is_found(machine: Machine) -> None:
    machine.complete()
    machine.python("3, 10")
    machine.python("3, 11", name="python3.11")
    answer = machine.run("install", "-i", "hosts.yml")
    assert answer.returncode == 0, answer.stderr
    assert any(call.startswith("python3.11 -m venv") for call in machine.called())


def test_all_that_is_missing_is_named_in_one_go(machine: Machine) -> None:
    machine.python(venv=False)
    machine.stub("apt-get")
    answer = machine.run("demo")
    assert answer.returncode == 1
    for sentence in (
        "the venv module of python3",
        "the ssh client",
        "podman, which runs the test hosts",
        "mmdebstrap, which builds their image",
    ):
        assert f"  - {sentence}" in answer.stderr
    command = answer.stderr.splitlines()[-1].strip()
    assert command.startswith(
        "sudo apt-get update && sudo apt-get install --no-install-recommends python3-venv openssh-client podman "
    )
    assert "mmdebstrap" in command
    assert not any(call.startswith("apt-get") for call in machine.called())
    assert not (machine.checkout / ".venv").exists()


def test_install_without_yes_says_what_is_missing(machine: Machine) -> None:
    machine.python(venv=False)
    machine.stub("apt-get")
    machine.stub("sudo", 'exec "$@"')
    answer = machine.run("install", "-i", "hosts.yml")
    assert answer.returncode == 1
    assert "  - the venv module of python3" in answer.stderr
    assert "  - the ssh client" in answer.stderr
    assert "Install it, then try again, or add --yes to have it installed:" in answer.stderr
    assert (
        "  sudo apt-get update && sudo apt-get install --no-install-recommends python3-venv openssh-client"
        in answer.stderr
    )
    assert not any(call.startswith("apt-get") for call in machine.called())


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 openssh-client"),
        ("dnf", "dnf install -q -y openssh-clients"),
    ],
)
def test_install_with_yes_installs_what_is_missing(machine: Machine, manager: str, command: str) -> None:
    machine.python()
    machine.stub(manager)
    machine.stub("sudo", 'if [ "$1" = env ]; then shift 2; fi; exec "$@"')
    answer = machine.run("install", "-i", "hosts.yml", "--yes", "--check")
    assert answer.returncode == 0, answer.stderr
    assert command in machine.called()
    assert machine.called()[-1].endswith("/site.yml -i hosts.yml --check")


def test_unattended_demo_installs_what_is_missing_with_sudo(machine: Machine) -> None:
    machine.complete()
    (machine.bin / "mmdebstrap").unlink()
    machine.stub("sudo", 'if [ "$1" = env ]; then shift 2; exec "$@"; fi')
    answer = machine.run("demo", "--yes")
    assert answer.returncode == 0, answer.stderr
    assert "sudo apt-get update -q" in machine.called()
    assert "apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 mmdebstrap" in machine.called()


def test_failed_package_installation_ends_it(machine: Machine) -> None:
    machine.complete()
    (machine.bin / "mmdebstrap").unlink()
    machine.stub("sudo", 'case "$*" in *install*) exit 100 ;; esac')
    answer = machine.run("demo", "--yes")
    assert answer.returncode == 1
    assert "apt-get could not install it" in answer.stderr
    assert not (machine.checkout / ".venv").exists()


def test_demo_needs_a_distribution_with_apt_and_install_does_not(machine: Machine) -> None:
    machine.complete()
    (machine.bin / "apt-get").unlink()
    machine.describe({"ID": "rocky", "VERSION_ID": "9.4", "PRETTY_NAME": "Rocky Linux 9.4"})
    answer = machine.run("demo")
    assert answer.returncode == 1
    assert "this is Rocky Linux 9.4. The other verbs work from here." in answer.stderr
    assert machine.run("install", "-i", "hosts.yml").returncode == 0


def test_el9_is_told_to_use_dnf(machine: Machine) -> None:
    machine.python("3, 9")
    machine.describe({"ID": "rocky", "VERSION_ID": "9.4", "PRETTY_NAME": "Rocky Linux 9.4"})
    answer = machine.run("install", "-i", "hosts.yml")
    assert "  sudo dnf install python3.11 openssh-clients" in answer.stderr


def test_taken_port_is_named_before_anything_starts(machine: Machine) -> None:
    machine.complete()
    with listener() as port:
        answer = machine.run("demo", "--port", str(port))
    assert answer.returncode == 1
    assert f"port {port} is taken by another program" in answer.stderr
    assert "demo --port" in answer.stderr
    assert not (machine.checkout / ".venv").exists()


@pytest.mark.parametrize("port", ["0", "65536", "https", "-1"])
def test_port_that_is_none_is_refused(machine: Machine, port: str) -> None:
    machine.complete()
    answer = machine.run("demo", "--port", port)
    assert answer.returncode == 1
    assert f"--port '{port}' is no port number" in answer.stderr


def test_little_disk_is_named_with_what_is_needed(machine: Machine) -> None:
    machine.complete()
    machine.space(2)
    answer = machine.run("demo")
    assert answer.returncode == 1
    assert re.search(r"the demo needs 6 GB of free disk, /\S+ has 2 GB", answer.stderr)


def test_little_memory_is_named_with_what_is_needed(machine: Machine) -> None:
    machine.complete()
    real = shutil.which("awk")
    machine.stub("awk", f'case "$*" in */proc/meminfo) echo 512000 ;; *) exec {real} "$@" ;; esac')
    answer = machine.run("demo")
    assert answer.returncode == 1
    assert "the demo needs 2000 MB of free memory, this machine has 500 MB" in answer.stderr


def test_podman_that_does_not_work_says_why(machine: Machine) -> None:
    machine.complete()
    machine.stub("podman", 'echo "Error: cannot set up storage: no space" >&2; exit 125')
    machine.stub("sudo", 'if [ "$1" = -n ]; then shift; fi; exec "$@"')
    machine.provide("true")
    answer = machine.run("demo")
    assert answer.returncode == 1
    assert "podman cannot be used here: Error: cannot set up storage: no space" in answer.stderr


def test_sudo_with_a_password_but_no_terminal_is_explained(machine: Machine) -> None:
    machine.complete()
    machine.stub("sudo", "exit 1")
    answer = machine.run("demo")
    assert answer.returncode == 1
    assert "sudo asks for a password here" in answer.stderr


def test_install_without_an_inventory_is_refused(machine: Machine) -> None:
    machine.complete()
    answer = machine.run("install", "--check")
    assert answer.returncode == 1
    assert "install -i inventories/single-server" in answer.stderr
    assert machine.run("install", ANSIBLE_INVENTORY="hosts.yml").returncode == 0


def test_install_is_ansible_playbook_with_the_same_options(machine: Machine) -> None:
    machine.complete()
    answer = machine.run("install", "-i", "my hosts.yml", "--check", "-e", "a=b c")
    assert answer.returncode == 0, answer.stderr
    checkout = machine.checkout
    assert (
        machine.called()[-1]
        == f"{checkout}/.venv/bin/ansible-playbook {checkout}/site.yml -i my hosts.yml --check -e a=b c"
    )


def test_the_configuration_of_another_project_is_left_out(machine: Machine) -> None:
    machine.complete()
    own = machine.checkout / "ansible.cfg"
    assert machine.run("install", "-i", "hosts.yml").returncode == 0
    program = machine.checkout / ".venv/bin/ansible-playbook"
    program.write_text(f'#!/bin/bash\necho "$ANSIBLE_CONFIG" >>"{machine.calls}"\n')
    for given, said in (
        ("/etc/ansible/ansible.cfg", True),
        (f"{own.parent}/../checkout/ansible.cfg", False),
        ("", False),
    ):
        answer = machine.run("install", "-i", "hosts.yml", ANSIBLE_CONFIG=given)
        assert (f"ANSIBLE_CONFIG={given} is left out" in answer.stderr) is said
        assert machine.called()[-1] == str(own)


def test_demo_is_a_playbook_with_variables(machine: Machine) -> None:
    machine.complete()
    with listener() as port:
        pass
    machine.run("demo", "--suite", "trixie", "--port", str(port), "-v")
    checkout = machine.checkout
    assert machine.called()[-1] == (
        f"{checkout}/.venv/bin/ansible-playbook {checkout}/playbooks/demo.yml -i {checkout}/inventories/demo "
        f"--extra-vars demo_suite=trixie --extra-vars demo_port={port} -v"
    )
    machine.run("demo", "--destroy")
    assert f"ansible-playbook {checkout}/playbooks/demo/destroy.yml " in machine.called()[-1]


def test_the_environment_is_made_once_for_each_lock(machine: Machine) -> None:
    machine.complete()

    def builds() -> int:
        machine.run("install", "-i", "hosts.yml")
        return sum("-m venv" in call for call in machine.called())

    assert builds() == 1
    assert builds() == 1
    pip = [call for call in machine.called() if "-m pip install" in call]
    assert pip
    assert all(
        "--no-deps --require-hashes" in call and call.endswith(f"{machine.checkout}/requirements.txt") for call in pip
    )
    lock = machine.checkout / "requirements.txt"
    lock.write_text(f"{lock.read_text()}# another\n")
    assert builds() == 2


def test_environment_that_was_cut_off_is_made_again(machine: Machine) -> None:
    machine.complete()
    (machine.checkout / ".venv" / "bin").mkdir(parents=True)
    assert machine.run("install", "-i", "hosts.yml").returncode == 0
    assert (machine.checkout / ".venv" / ".complete").exists()


def test_an_active_environment_is_not_the_machines_python(machine: Machine) -> None:
    machine.complete()
    machine.run("install", "-i", "hosts.yml")
    active = machine.checkout / ".venv" / "bin"
    (active / "python3").symlink_to("python")
    (machine.checkout / "requirements.txt").write_text("# another\n")
    answer = machine.run("install", "-i", "hosts.yml", PATH=f"{active}:{machine.bin}")
    assert answer.returncode == 0, answer.stderr
    assert [call for call in machine.called() if "-m venv" in call] == [f"python3 -m venv {machine.checkout}/.venv"] * 2


def test_works_through_a_link_from_anywhere(machine: Machine) -> None:
    machine.complete()
    link = machine.bin / "hub"
    link.symlink_to(machine.checkout / "campushub")
    answer = subprocess.run(
        ["hub", "install", "-i", "hosts.yml"],
        cwd="/",
        env={"PATH": str(machine.bin), "HOME": "/", "CAMPUSHUB_OS_RELEASE": str(machine.os_release)},
        capture_output=True,
        text=True,
        check=False,
        executable=str(link),
    )
    assert answer.returncode == 0, answer.stderr
    assert str(machine.checkout / "site.yml") in machine.called()[-1]


def test_unknown_part_of_the_tests_is_answered_with_the_nearest(machine: Machine) -> None:
    machine.complete()
    answer = machine.run("test", "lnt")
    assert answer.returncode == 1
    assert "there is no part 'lnt'. Did you mean 'lint'? There are: lint, unit" in answer.stderr
    assert not (machine.checkout / ".venv-test").exists()


def test_tests_with_hosts_are_not_started_where_sudo_would_ask(machine: Machine) -> None:
    machine.complete()
    machine.stub("sudo", "exit 1")
    machine.stub("shellcheck")
    answer = machine.run("test", "base")
    assert answer.returncode == 1
    assert "sudo --preserve-env" in answer.stderr
    assert answer.stderr.rstrip().endswith("test base")


def test_announce_takes_text_times_and_languages(machine: Machine) -> None:
    machine.complete()
    words = ["--ru", "«Медленно»", "--until", "18:00", "-i", "hosts.yml", "--yes", "--limit", "here"]
    assert machine.run("announce", 'The "storage" is slow.', *words).returncode == 0
    (call,) = [call for call in machine.called() if "announce.yml" in call]
    before, _, values = call.partition(" --extra-vars ")
    assert before.endswith("/playbooks/announce.yml -i hosts.yml --limit here")
    assert json.loads(values) == {
        "announce_text": 'The "storage" is slow.',
        "announce_translations": {"ru": "«Медленно»"},
        "announce_until": "18:00",
    }


def test_announce_without_a_text_says_what_to_write(machine: Machine) -> None:
    machine.complete()
    for words in ((), ("-i", "hosts.yml"), ("--until", "18:00")):
        answer = machine.run("announce", *words)
        assert answer.returncode
        assert "write the text first" in answer.stderr
    answer = machine.run("announce", "Slow", "--until")
    assert "--until needs a value" in answer.stderr
    assert machine.run("announce", "--clear", "-i", "hosts.yml").returncode == 0
    assert '{"announce_translations": {}, "announce_clear": "yes"}' in machine.called()[-1]


@pytest.mark.parametrize("verb", ["drain", "resume"])
def test_a_node_is_named_before_options(machine: Machine, verb: str) -> None:
    machine.complete()
    assert machine.run(verb, "node1.example.org", "-i", "hosts.yml").returncode == 0
    calls = [call for call in machine.called() if f"{verb}.yml" in call]
    assert f"/playbooks/{verb}.yml -i hosts.yml --extra-vars {verb}_host=node1.example.org" in calls[0]
    for words in ([], ["-i", "hosts.yml"], ["{{ x }}", "-i", "hosts.yml"]):
        assert "name the host first" in machine.run(verb, *words).stderr


def test_maintenance_takes_a_state_and_a_time(machine: Machine) -> None:
    machine.complete()
    assert machine.run("maintenance", "on", "--at", "18:00", "-i", "hosts.yml").returncode == 0
    assert machine.run("maintenance", "off", "-i", "hosts.yml", "--keep-servers").returncode == 0
    calls = [call for call in machine.called() if "maintenance.yml" in call]
    assert "/playbooks/maintenance.yml -i hosts.yml --extra-vars" in calls[0]
    assert [json.loads(call.partition(" --extra-vars ")[2]) for call in calls] == [
        {"maintenance_state": "on", "maintenance_at": "18:00", "maintenance_keep_servers": False},
        {"maintenance_state": "off", "maintenance_at": "", "maintenance_keep_servers": True},
    ]
    for words in ((), ("-i", "hosts.yml"), ("maybe",)):
        assert "say on or off" in machine.run("maintenance", *words).stderr
    assert "--at needs a value" in machine.run("maintenance", "on", "--at").stderr
