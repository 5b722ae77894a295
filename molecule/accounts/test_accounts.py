"""Accounts as people meet them: who gets in, and who sees what."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

ApplyRole = Callable[..., subprocess.CompletedProcess[str]]

SCENARIO = yaml.safe_load((Path(__file__).parent / "molecule.yml").read_text().replace("$$", "$"))
SETTINGS = SCENARIO["provisioner"]["inventory"]["group_vars"]["all"]
ANN, BOB = SETTINGS["accounts_users"]


def hashed(password: str) -> str:
    """Return a password as the setting wants it."""
    done = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=password, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def accepts(host: Host, name: str, password: str) -> bool:
    """Whether PAM lets an ordinary user become another one with a password."""
    done = host.run(
        f"printf '%s\\n' {shlex.quote(password)} | setpriv --reuid 65534 --clear-groups su {name} -c 'id -un'"
    )
    return bool(done.rc == 0 and done.stdout.strip() == name)


def summary(done: subprocess.CompletedProcess[str]) -> int:
    """Return how many tasks of a successful run changed something."""
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"changed=(\d+)", done.stdout)
    assert found, done.stdout
    return int(found.group(1))


@pytest.fixture
def restored(apply_role: ApplyRole) -> Any:
    """Bring the accounts of the scenario back afterwards."""
    yield
    summary(apply_role())


def test_a_user_has_the_listed_name_number_and_groups(host: Host) -> None:
    assert host.check_output("id -u ann") == "2001"
    assert set(host.check_output("id -nG ann").split()) == {"ann", "physics", "video", "jupyter-users"}
    assert set(host.check_output("id -nG bob").split()) == {"bob"}
    assert host.check_output("getent group physics | cut -d: -f3") == "3000"
    assert host.check_output("getent passwd ann | cut -d: -f5") == "Анна Иванова"


@pytest.mark.attack
def test_only_the_right_password_lets_a_user_in(host: Host) -> None:
    assert accepts(host, "ann", "correct horse")
    assert not accepts(host, "ann", "wrong horse")
    assert not accepts(host, "bob", ""), "an account without a hash cannot be entered with a password"


@pytest.mark.attack
def test_a_user_reaches_the_own_home_and_no_one_elses(host: Host) -> None:
    host.check_output("sudo -u ann sh -c 'echo secret > ~/notes; chmod 0644 ~/notes'")
    assert host.check_output("sudo -u ann cat /home/ann/notes") == "secret"
    for attempt in ("ls /home/ann", "cat /home/ann/notes", "touch /home/ann/x"):
        refused = host.run(f"sudo -u bob {attempt}")
        assert refused.rc != 0
        assert "Permission denied" in refused.stderr


@pytest.mark.attack
def test_an_account_made_by_hand_has_a_closed_home_too(host: Host) -> None:
    host.check_output("useradd -m carl")
    try:
        assert host.check_output("stat -c %a /home/carl") == "700"
    finally:
        host.check_output("userdel -r carl 2>/dev/null")


def test_a_home_that_was_opened_is_closed_again(host: Host, apply_role: ApplyRole) -> None:
    host.check_output("chmod 0755 /home/ann")
    assert host.run("sudo -u bob ls /home/ann").rc == 0
    assert summary(apply_role()) == 1
    assert host.run("sudo -u bob ls /home/ann").rc != 0


@pytest.mark.usefixtures("restored")
def test_a_changed_password_stays_until_another_is_listed(host: Host, apply_role: ApplyRole) -> None:
    host.run("printf 'ann:her own\\n' | chpasswd")
    assert summary(apply_role()) == 0
    assert accepts(host, "ann", "her own")
    assert summary(apply_role(accounts_users=[{**ANN, "password_hash": hashed("a new one")}, BOB])) == 1
    assert accepts(host, "ann", "a new one")
    assert not accepts(host, "ann", "her own")


@pytest.mark.attack
@pytest.mark.usefixtures("restored")
def test_a_hash_is_shown_in_no_output(apply_role: ApplyRole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_VERBOSITY", "3")
    monkeypatch.setenv("ANSIBLE_DIFF_ALWAYS", "true")
    new = hashed("another one")
    done = apply_role(accounts_users=[{**ANN, "password_hash": new}])
    assert summary(done) == 1
    assert "set the password of ann" in done.stdout, "what happened must still be told"
    for secret in (new, new.rpartition("$")[2], ANN["password_hash"].rpartition("$")[2]):
        assert secret not in done.stdout + done.stderr


@pytest.mark.usefixtures("restored")
def test_ssh_keys_admit_their_owner_and_users_own_keys_stay(
    host: Host, apply_role: ApplyRole, request: pytest.FixtureRequest
) -> None:
    instance = request.node.callspec.params["host"]
    public = Path(f"{instance['identity_file']}.pub").read_text().strip()
    host.check_output("sudo -u ann sh -c 'mkdir -pm 700 ~/.ssh; echo ssh-ed25519 HERS > ~/.ssh/authorized_keys'")
    login = ["ssh", "-i", instance["identity_file"], "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
    login += ["-o", "UserKnownHostsFile=/dev/null", f"ann@{instance['address']}", "id -un"]
    assert subprocess.run(login, capture_output=True, check=False).returncode != 0
    assert summary(apply_role(accounts_users=[{**ANN, "ssh_keys": [public]}])) == 1
    assert subprocess.run(login, capture_output=True, text=True, check=True).stdout.strip() == "ann"
    for without in ({**ANN, "ssh_keys": []}, ANN):
        summary(apply_role(accounts_users=[{**ANN, "ssh_keys": [public]}]))
        assert summary(apply_role(accounts_users=[without])) == 1
        assert subprocess.run(login, capture_output=True, check=False).returncode != 0
        assert host.check_output("cat /home/ann/.ssh/authorized_keys") == "ssh-ed25519 HERS"
    assert host.file("/var/lib/campushub/accounts-keys.json").content_string == "[]"


@pytest.mark.attack
@pytest.mark.usefixtures("restored")
def test_a_link_in_place_of_the_keys_leads_root_nowhere(host: Host, apply_role: ApplyRole) -> None:
    key = "ssh-ed25519 " + "A" * 68
    host.check_output("sudo -u bob sh -c 'rm -rf ~/.ssh; ln -s /etc ~/.ssh'")
    done = apply_role(accounts_users=[{**BOB, "ssh_keys": [key]}, {**ANN, "full_name": "Ann"}])
    assert done.returncode != 0
    assert "could not set the ssh keys of bob" in done.stdout
    assert not host.file("/etc/authorized_keys").exists
    assert host.check_output("getent passwd ann | cut -d: -f5") == "Ann", "the other accounts are finished"
    host.check_output("rm /home/bob/.ssh")


@pytest.mark.usefixtures("restored")
def test_a_removed_account_that_returns_owns_its_home_again(host: Host, apply_role: ApplyRole) -> None:
    host.check_output("sudo -u bob sh -c 'echo mine > ~/kept'")
    assert summary(apply_role(accounts_users=[{**BOB, "state": "absent"}])) == 1
    assert host.run("getent passwd bob").rc != 0
    assert host.check_output("cat /home/bob/kept") == "mine"
    assert summary(apply_role(accounts_users=[{"name": "bob"}])) == 1
    assert host.check_output("sudo -u bob cat /home/bob/kept") == "mine"


def test_a_home_goes_only_when_that_is_asked_for(host: Host, apply_role: ApplyRole) -> None:
    summary(apply_role(accounts_users=[{"name": "dora"}]))
    assert host.file("/home/dora").is_directory
    summary(apply_role(accounts_users=[{"name": "dora", "state": "absent", "remove_home": True}]))
    assert not host.file("/home/dora").exists


def test_check_mode_tells_and_does_nothing(host: Host, apply_role: ApplyRole) -> None:
    assert summary(apply_role(check=True, accounts_users=[{"name": "eve", "password_hash": ANN["password_hash"]}])) == 1
    assert host.run("getent passwd eve").rc != 0
    assert not host.file("/home/eve").exists


@pytest.mark.one_host
def test_fifty_users_who_are_there_already_take_no_time(host: Host, apply_role: ApplyRole) -> None:
    many = [
        {"name": f"user{number}", "password_hash": ANN["password_hash"], "groups": ["physics"]} for number in range(50)
    ]
    summary(apply_role(accounts_users=many))
    assert host.check_output("getent group physics | tr , '\\n' | wc -l") == "51"

    def seconds(users: list[dict[str, Any]]) -> float:
        began = time.monotonic()
        assert summary(apply_role(accounts_users=users)) == 0
        return time.monotonic() - began

    # A task for each would take 20 s on an idle machine.
    assert seconds(many) - seconds(many[:2]) < 6
    summary(
        apply_role(accounts_users=[{"name": user["name"], "state": "absent", "remove_home": True} for user in many])
    )
    assert host.check_output("ls /home | grep -c user || true") == "0"


@pytest.mark.attack
@pytest.mark.usefixtures("restored")
def test_no_user_gets_a_group_of_the_system(host: Host, apply_role: ApplyRole) -> None:
    # A group of the kind that any package brings, which no list of names can know.
    host.check_output("groupadd --system keepers")
    try:
        done = apply_role(accounts_users=[{"name": "keepers"}, ANN, BOB])
        assert done.returncode != 0
        assert "user keepers: group keepers belongs to the system" in done.stdout
        assert host.run("getent passwd keepers").rc != 0
        done = apply_role(accounts_groups=[*SETTINGS["accounts_groups"], {"name": "keepers", "state": "absent"}])
        assert "group keepers belongs to the system" in done.stdout
        assert host.run("getent group keepers").rc == 0
        # As a former release made the account.
        host.check_output("useradd -m -g keepers keepers")
        assert summary(apply_role(accounts_users=[{"name": "keepers", "state": "absent", "remove_home": True}])) == 1
        assert host.run("getent passwd keepers").rc != 0
        assert host.run("getent group keepers").rc == 0, "the group stays"
    finally:
        host.run("userdel -r keepers; groupdel keepers")


@pytest.mark.usefixtures("restored")
def test_absent_removes_accounts_and_groups_and_no_file(host: Host, apply_role: ApplyRole) -> None:
    host.check_output("sudo -u ann sh -c 'echo secret > ~/notes'")
    assert summary(apply_role(accounts_state="absent")) > 0
    for database, name in (("passwd", "ann"), ("passwd", "bob"), ("group", "physics"), ("group", "jupyter-users")):
        assert host.run(f"getent {database} {name}").rc == 2
    assert host.check_output("cat /home/ann/notes") == "secret"
    assert "CampusHub" not in host.check_output("cat /etc/login.defs")
    assert summary(apply_role(accounts_state="absent")) == 0
