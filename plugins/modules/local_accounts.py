"""All local accounts of a host in one call."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.files import replace_block, write
from ansible.module_utils.result_cache import CacheEntry
from ansible.module_utils.system_groups import system_groups, table

DOCUMENTATION = r"""
module: local_accounts
short_description: Make local accounts and groups as listed
extends_documentation_fragment: [result_cache]
description:
  - Brings groups, accounts, password hashes, memberships, ssh keys and the modes of homes to what is listed, with the
    distribution's own programs, and in one call, so that fifty accounts cost little more time than one.
  - Hashes go through standard input and appear neither in the list of processes nor in differences.
  - A password that its user has changed stays until another hash is listed.
  - Numbers of accounts and groups that exist are never changed, because their files would be orphaned.
  - A group of the system, whose number is below C(GID_MIN), is never a user's first group, nor removed.
  - What cannot be done is told at the end; all the rest is done.
options:
  users:
    description: Accounts.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Login name., type: str, required: true}
      uid: {description: Number of a new account., type: int}
      full_name: {description: Name of the person., type: str}
      groups:
        description:
          - Supplementary groups.
          - Memberships in others of O(groups) and in O(access_group) end; those in any other group stay.
        type: list
        elements: str
        default: []
      access: {description: Whether the account is in O(access_group)., type: bool, default: true}
      password_hash: {description: Password as a hash., type: str}
      ssh_keys: {description: Lines of a marked part of C(~/.ssh/authorized_keys)., type: list, elements: str}
      shell: {description: Login shell., type: path, default: /bin/bash}
      state: {description: Whether the account is there., type: str, choices: [present, absent], default: present}
      remove_home: {description: Whether the home goes with the account., type: bool, default: false}
  groups:
    description: Groups.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the group., type: str, required: true}
      gid: {description: Number of a new group., type: int}
      state: {description: Whether the group is there., type: str, choices: [present, absent], default: present}
  access_group:
    description: Group of every account with O(users[].access).
    type: str
    required: true
  new_homes:
    description:
      - Mode of homes that are made by others than this module, such as C(useradd) or a first login; C(/etc/login.defs)
        has it in a marked part.
    type: str
  state:
    description: V(absent) removes all accounts and groups that are listed, and O(new_homes), and keeps all homes.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Make two accounts
  local_accounts:
    access_group: jupyter-users
    users:
      - name: ann
        uid: 2001
        password_hash: "{{ vault_password_of_ann }}"
      - name: bob
        state: absent
"""

RETURN = r"""
actions:
  description: What was done, in words.
  returned: always
  type: list
  elements: str
"""

HOMES = "/home"
LOGIN_DEFS = "/etc/login.defs"
APPLIED = "/var/lib/campushub/accounts.json"
KEYED = "/var/lib/campushub/accounts-keys.json"


@dataclass
class Account:
    """An account as /etc/passwd and /etc/shadow have it."""

    uid: int
    gid: int
    full_name: str
    home: str
    shell: str
    hashed: str = "!"


@dataclass
class Group:
    """A group as /etc/group has it."""

    gid: int
    members: list[str]


@dataclass
class Home:
    """Who owns a home, and who may enter it."""

    uid: int
    mode: int


@dataclass
class Host:
    """What is on the host."""

    users: dict[str, Account] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    #: Those of the groups that belong to the system.
    system_groups: set[str] = field(default_factory=set)
    homes: dict[str, Home] = field(default_factory=dict)
    #: Digests of the hashes that were set here, by user.
    applied: dict[str, str] = field(default_factory=dict)
    #: Users who were given keys here.
    keyed: set[str] = field(default_factory=set)


@dataclass
class Action:
    """One step: a program to run, or a home to close."""

    words: str
    argv: list[str] = field(default_factory=list)
    stdin: str | None = None
    close: str | None = None


@dataclass
class Plan:
    """What to do, what cannot be done, and which hashes are then in force."""

    actions: list[Action] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    applied: dict[str, str] = field(default_factory=dict)


def digest(password_hash: str) -> str:
    """Return what is remembered of a hash."""
    return hashlib.sha256(password_hash.encode()).hexdigest()


class Planner:
    """Compares a host with the lists; changes nothing."""

    def __init__(self, host: Host, users: list[dict[str, Any]], groups: list[dict[str, Any]], access: str) -> None:
        """Take the current state, and the wanted one."""
        self.host = host
        self.access = access
        self.users = users
        self.groups = groups if any(group["name"] == access for group in groups) else [*groups, {"name": access}]
        self.plan = Plan(applied=dict(host.applied))
        #: Groups that are decided about here. Those of the system are not, whatever is listed.
        self.decided = {group["name"] for group in self.groups} - host.system_groups
        self.kept_groups = {
            group["name"]
            for group in self.groups
            if group.get("state", "present") == "present" and group["name"] in self.decided
        }

    def make(self) -> Plan:
        """Return the steps in an order in which they can be done."""
        for group in self.groups:
            if group.get("state", "present") == "present":
                self._group(group)
        for user in self.users:
            if user.get("state", "present") == "absent":
                self._remove_user(user)
            elif self._user(user) and self._password_is_new(user):
                line = f"{user['name']}:{user['password_hash']}\n"
                self.plan.actions.append(Action(f"set the password of {user['name']}", ["chpasswd", "-e"], stdin=line))
        for group in self.groups:
            if group.get("state", "present") == "absent" and group["name"] in self.host.groups:
                self._remove_group(group["name"])
        return self.plan

    def _do(self, words: str, *argv: str) -> None:
        self.plan.actions.append(Action(words, list(argv)))

    def _problem(self, text: str) -> None:
        self.plan.problems.append(text)

    def _group(self, group: Mapping[str, Any]) -> None:
        name, gid = group["name"], group.get("gid")
        existing = self.host.groups.get(name)
        if existing and name in self.host.system_groups:
            self._problem(
                f"group {name} belongs to the system (number {existing.gid})."
                f" Choose another name in {'accounts_access_group' if name == self.access else 'accounts_groups'}."
            )
            return
        if existing:
            if gid is not None and existing.gid != gid:
                self._problem(
                    f"group {name} has number {existing.gid} on this host, not {gid}."
                    f" Change gid in accounts_groups, or move its files by hand: groupmod -g {gid} {name}."
                )
            return
        holder = next((other for other, entry in self.host.groups.items() if entry.gid == gid), None)
        if gid is not None and holder:
            self._problem(
                f"number {gid} of group {name} belongs to group {holder}. Choose another gid in accounts_groups."
            )
            self.kept_groups.discard(name)
            return
        number = ["-g", str(gid)] if gid is not None else []
        self._do(f"make group {name}", "groupadd", *number, name)

    def _user(self, user: Mapping[str, Any]) -> bool:
        """Plan what one account needs; whether there will be such an account."""
        existing = self.host.users.get(user["name"])
        groups = self._supplementary(user)
        if existing is None:
            return self._new_user(user, groups)
        return self._existing_user(user, existing, groups)

    def _supplementary(self, user: Mapping[str, Any]) -> list[str]:
        """Groups that the account is to be in, those that nobody here decides about included."""
        name = user["name"]
        wanted = set(user.get("groups") or [])
        if user.get("access", True) and self.access in self.decided:
            wanted.add(self.access)
        known = self.kept_groups | set(self.host.groups)
        missing = sorted(wanted - known)
        if missing:
            self._problem(
                f"user {name}: there is no group {', '.join(missing)} on this host. Add it to accounts_groups."
            )
        others = {
            group for group, entry in self.host.groups.items() if name in entry.members and group not in self.decided
        }
        return sorted((wanted & known) | others)

    def _new_user(self, user: Mapping[str, Any], groups: list[str]) -> bool:
        name, uid = user["name"], user.get("uid")
        if not self._own_group_is_free(name):
            return False
        home = self.host.homes.get(f"{HOMES}/{name}")
        if (
            home
            and uid is None
            and home.uid >= 1000
            and all(home.uid != other.uid for other in self.host.users.values())
        ):
            # An account that was removed comes back as the owner of its home.
            uid = home.uid
        if home and home.uid != uid:
            whose = next((other for other, entry in self.host.users.items() if entry.uid == home.uid), "nobody")
            self._problem(
                f"user {name}: {HOMES}/{name} is there and belongs to number {home.uid} ({whose})."
                " Move it away, or give that uid in accounts_users."
            )
            return False
        holder = next((other for other, entry in self.host.users.items() if entry.uid == uid), None)
        if uid is not None and holder:
            self._problem(f"user {name}: uid {uid} belongs to {holder} on this host. Choose another in accounts_users.")
            return False
        argv = [
            "useradd",
            "-K",
            "HOME_MODE=0700",
            "-m",
            "-d",
            f"{HOMES}/{name}",
            "-s",
            user.get("shell") or "/bin/bash",
        ]
        argv += ["-u", str(uid)] if uid is not None else []
        argv += ["-c", user["full_name"]] if user.get("full_name") else []
        argv += ["-g", name] if name in self.host.groups else ["-U"]
        argv += ["-G", ",".join(groups)] if groups else []
        self._do(f"make user {name}" + (f" in {', '.join(groups)}" if groups else ""), *argv, name)
        if home and home.mode != 0o700:
            self.plan.actions.append(Action(f"close {HOMES}/{name}", close=f"{HOMES}/{name}"))
        return True

    def _own_group_is_free(self, name: str) -> bool:
        """Tell whether a new user's own group is to be made, or is there and nobody else's."""
        group = self.host.groups.get(name)
        if name in self.host.system_groups:
            self._problem(
                f"user {name}: group {name} belongs to the system, and the user would have its rights."
                " Choose another name in accounts_users."
            )
            return False
        others = {user for user, entry in self.host.users.items() if group and entry.gid == group.gid}
        others |= set(group.members if group else []) - {name}
        if name in self.kept_groups or others:
            whose = f"has {', '.join(sorted(others))} in it" if others else "is in accounts_groups"
            self._problem(f"user {name}: the group {name} {whose}. Choose another name in accounts_users.")
            return False
        return True

    def _existing_user(self, user: Mapping[str, Any], existing: Account, groups: list[str]) -> bool:
        name, uid = user["name"], user.get("uid")
        if existing.uid < 1000:
            self._problem(f"user {name} is an account of the system (uid {existing.uid}). Choose another name.")
            return False
        if uid is not None and existing.uid != uid:
            self._problem(
                f"user {name} has uid {existing.uid} on this host, not {uid}."
                f" Change uid in accounts_users, or move the files by hand: usermod -u {uid} {name}."
            )
            return False
        if self._system_group(existing) not in (None, "users"):
            self._problem(
                f"user {name} has group {self._system_group(existing)} of the system as first group, and its rights."
                f" Give another: usermod -g GROUP {name}."
            )
            return False
        argv, words = [], []
        for option, wanted, before, label in (
            ("-c", user.get("full_name"), existing.full_name, "name"),
            ("-s", user.get("shell"), existing.shell, "shell"),
        ):
            if wanted is not None and wanted != before:
                argv += [option, wanted]
                words.append(f"{label} {before} → {wanted}")
        now = sorted(group for group, entry in self.host.groups.items() if name in entry.members)
        # Membership in one's own primary group need not be listed.
        wanted_groups = [group for group in groups if group in now or self._gid(group) != existing.gid]
        if wanted_groups != now:
            argv += ["-G", ",".join(wanted_groups)]
            words.append(f"groups {', '.join(now) or 'none'} → {', '.join(wanted_groups) or 'none'}")
        if argv:
            self._do(f"change user {name}: {'; '.join(words)}", "usermod", *argv, name)
        home = self.host.homes.get(existing.home)
        if home is None:
            self._do(f"make {existing.home}", "mkhomedir_helper", name, "0077")
        elif home.mode != 0o700 and home.uid == existing.uid:
            self.plan.actions.append(Action(f"close {existing.home}", close=existing.home))
        return True

    def _system_group(self, account: Account) -> str | None:
        """Return the first group of an account if it belongs to the system."""
        return next((name for name in sorted(self.host.system_groups) if self._gid(name) == account.gid), None)

    def _gid(self, group: str) -> int | None:
        entry = self.host.groups.get(group)
        return entry.gid if entry else None

    def _password_is_new(self, user: Mapping[str, Any]) -> bool:
        wanted = user.get("password_hash")
        if not wanted:
            return False
        name = user["name"]
        already = self.plan.applied.get(name) == digest(wanted)
        self.plan.applied[name] = digest(wanted)
        existing = self.host.users.get(name)
        if existing is None:
            return True
        # `usermod --lock` puts a ! in front: who is locked out stays so.
        return not already and existing.hashed.lstrip("!") != wanted

    def _remove_user(self, user: Mapping[str, Any]) -> None:
        name = user["name"]
        self.plan.applied.pop(name, None)
        existing = self.host.users.get(name)
        if existing is None:
            return
        if existing.uid < 1000:
            self._problem(f"user {name} is an account of the system (uid {existing.uid}) and is not removed.")
            return
        if self._system_group(existing) == name:
            # Else userdel would remove the group together with the user.
            self._do(f"take group {name} from user {name}", "usermod", "-g", "65534", name)
        if user.get("remove_home"):
            self._do(f"remove user {name} and {existing.home}", "userdel", "-r", name)
        else:
            self._do(f"remove user {name}", "userdel", name)

    def _remove_group(self, name: str) -> None:
        gone = {user["name"] for user in self.users if user.get("state", "present") == "absent"}
        group = self.host.groups[name]
        if name in self.host.system_groups:
            self._problem(f"group {name} belongs to the system (number {group.gid}) and is not removed.")
            return
        primary = sorted(user for user, entry in self.host.users.items() if entry.gid == group.gid and user not in gone)
        if primary:
            self._problem(f"group {name} is the first group of {', '.join(primary)} and is not removed.")
        else:
            self._do(f"remove group {name}", "groupdel", name)


def read_host(names: Collection[str]) -> Host:
    """Return the local accounts and groups, and the homes of those named."""
    host = Host()
    for row in table("/etc/passwd", 7):
        host.users[row[0]] = Account(int(row[2]), int(row[3]), row[4], row[5], row[6])
    for row in table("/etc/shadow", 2):
        if row[0] in host.users:
            host.users[row[0]].hashed = row[1]
    for row in table("/etc/group", 4):
        host.groups[row[0]] = Group(int(row[2]), [member for member in row[3].split(",") if member])
    host.system_groups = system_groups()
    for name in names:
        home = host.users[name].home if name in host.users else f"{HOMES}/{name}"
        try:
            found = os.stat(home)
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode):
            host.homes[home] = Home(found.st_uid, stat.S_IMODE(found.st_mode))
    host.applied = recorded(APPLIED) or {}
    known = recorded(KEYED)
    # Where nothing says who was given keys, as after a former release, it may have been anybody.
    host.keyed = set(names) & host.users.keys() if known is None else set(known)
    return host


def recorded(path: str) -> Any:
    """Return what was written down; nothing where nothing was, or a write was cut off."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


def record(path: str, content: Mapping[str, str] | list[str] | None) -> None:
    """Write down what is in force; with None leave nothing behind."""
    if content is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = f"{path}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(temporary, path)


def wanted_keys(users: Iterable[Mapping[str, Any]], keyed: set[str]) -> dict[str, list[str]]:
    """Return the keys of users for whom any are listed, and none for those who had some before."""
    present = [user for user in users if user["state"] == "present"]
    return {
        user["name"]: user["ssh_keys"] or []
        for user in present
        if user["ssh_keys"] is not None or user["name"] in keyed
    }


# The most bytes of a file of keys, which is that of thousands.
LONGEST_KEYS = 1 << 20
# Runs as the user: a link that the user put in place of the file leads no further than the user's own rights.
KEYS_PROGRAM = r"""
import os, stat, sys
path, longest = os.path.join(sys.argv[1], ".ssh", "authorized_keys"), int(sys.argv[3])
if sys.argv[2] == "write":
    os.umask(0o077)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".campushub", "wb") as file:
        file.write(sys.stdin.buffer.read())
    os.replace(path + ".campushub", path)
elif os.path.exists(path):
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        about = os.fstat(file.fileno())
        if about.st_size > longest:
            sys.exit(f"{path} has more than {longest} bytes")
        if stat.S_ISREG(about.st_mode):
            sys.stdout.buffer.write(file.read(longest))
"""


def keys_as_user(name: str, verb: str, text: str = "") -> str:
    """Read or write the file of keys with the rights of its owner, who could have a say in what the program prints."""
    account = pwd.getpwnam(name)
    most = 2 * LONGEST_KEYS
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as problem:
        done = subprocess.run(
            [sys.executable, "-c", KEYS_PROGRAM, account.pw_dir, verb, str(LONGEST_KEYS)],
            input=text.encode(errors="surrogateescape"),
            stdout=printed,
            stderr=problem,
            check=False,
            timeout=20,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        )
        said, why = ((file.seek(0), file.read(most).decode(errors="surrogateescape"))[1] for file in (printed, problem))
    if done.returncode:
        raise OSError((why.strip() or f"status {done.returncode}").splitlines()[-1][:200])
    return said


class Runner:
    """Carries out what was planned, as far as it goes."""

    def __init__(self, module: AnsibleModule) -> None:
        """Run programs through Ansible."""
        self.module = module
        self.done: list[str] = []
        self.problems: list[str] = []

    def run(self, action: Action) -> None:
        """Take one step; a step that fails does not keep the next from being taken."""
        self.done.append(action.words)
        if self.module.check_mode:
            return
        if action.close:
            os.chmod(action.close, 0o700)
            return
        program = self.module.get_bin_path(action.argv[0], required=True)
        code, _, said = self.module.run_command([program, *action.argv[1:]], data=action.stdin, binary_data=True)
        if code:
            hint = ""
            if action.argv[0] == "userdel" and code == 8:
                name = action.argv[-1]
                hint = (
                    f" End servers and jobs with campushub-revoke {name} on the hub, what else runs with"
                    f" loginctl terminate-user {name} here, and run this again."
                )
            self.problems.append(f"could not {action.words}: {said.strip()}.{hint}")
            self.done.pop()

    def new_homes(self, mode: str | None) -> None:
        """Say in login.defs what mode new homes have; None leaves that to the distribution."""
        try:
            with open(LOGIN_DEFS, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
            wanted = replace_block(text, f"HOME_MODE {mode}" if mode else "")
            if wanted != text:
                self.done.append(f"let new homes have mode {mode}" if mode else "forget the mode of new homes")
                if not self.module.check_mode:
                    now = os.stat(LOGIN_DEFS)
                    write(LOGIN_DEFS, wanted, stat.S_IMODE(now.st_mode), (now.st_uid, now.st_gid))
        except OSError as error:
            self.problems.append(f"could not set the mode of new homes: {error}")

    def keys(self, name: str, keys: list[str]) -> bool:
        """Bring the marked part of a user's keys to what is listed; return whether it is now, or would be."""
        try:
            pwd.getpwnam(name)
        except KeyError:
            if keys and self.module.check_mode:
                self.done.append(f"set the ssh keys of {name}")
            return False
        try:
            text = keys_as_user(name, "read")
            wanted = replace_block(text, "\n".join(keys))
            if wanted != text:
                self.done.append(f"set the ssh keys of {name}")
                if not self.module.check_mode:
                    keys_as_user(name, "write", wanted)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.problems.append(f"could not set the ssh keys of {name}: {error}")
            return False
        return True


def on_own_disk(directory: str) -> bool:
    """Tell whether no other host, which may not answer, is asked for a directory."""
    try:
        device = os.stat(directory).st_dev
    except OSError:
        return True
    return os.major(device) != 0 or device == os.stat("/").st_dev


def cache_entry(parameters: Mapping[str, Any]) -> CacheEntry:
    """Prepare to remember that there is nothing to change, unless users or another host decide about that."""
    users = parameters["users"]
    names = {user["name"] for user in users}
    homes = [row[5] for row in table("/etc/passwd", 7) if row[0] in names]
    known = recorded(KEYED)
    keys = known is None or wanted_keys(users, set(known))
    alone = parameters["state"] == "present" and not keys and all(map(on_own_disk, homes))
    tables = ["/etc/passwd", "/etc/shadow", "/etc/group", LOGIN_DEFS, APPLIED, KEYED]
    return CacheEntry(parameters["cache_key"] if alone else None, [*tables, *homes])


def main() -> None:
    """Run the module."""
    state = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    module = AnsibleModule(
        argument_spec={
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "uid": {"type": "int"},
                    "full_name": {"type": "str"},
                    "groups": {"type": "list", "elements": "str", "default": []},
                    "access": {"type": "bool", "default": True},
                    "password_hash": {"type": "str", "no_log": True},
                    "ssh_keys": {"type": "list", "elements": "str", "no_log": False},
                    "shell": {"type": "path", "default": "/bin/bash"},
                    "state": state,
                    "remove_home": {"type": "bool", "default": False},
                },
            },
            "groups": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "gid": {"type": "int"}, "state": state},
            },
            "access_group": {"type": "str", "required": True},
            "new_homes": {"type": "str"},
            "state": state,
            "cache_key": {"type": "str"},
        },
        supports_check_mode=True,
    )
    entry = cache_entry(module.params)
    users, groups, access = module.params["users"], module.params["groups"], module.params["access_group"]
    if module.params["state"] == "absent":
        users = [{**user, "state": "absent", "remove_home": False} for user in users]
        groups = [{**group, "state": "absent"} for group in groups if group["name"] != access]
        groups.append({"name": access, "state": "absent"})
    host = read_host([user["name"] for user in users])
    plan = Planner(host, users, groups, access).make()
    runner = Runner(module)
    if module.params["new_homes"]:
        runner.new_homes(module.params["new_homes"] if module.params["state"] == "present" else None)
    for action in plan.actions:
        runner.run(action)
    keys_of = wanted_keys(users, host.keyed)
    # Before any are written: nobody would take away those that a run wrote which was cut off.
    keyed = host.keyed | {name for name, keys in keys_of.items() if keys}
    if keyed != set(recorded(KEYED) or []) and not module.check_mode:
        record(KEYED, sorted(keyed))
    done = {name for name, keys in keys_of.items() if runner.keys(name, keys) and not keys}
    # A home that stays keeps its keys, for an account that comes back.
    gone = module.params["state"] == "absent"
    keyed -= done | {user["name"] for user in users if user["remove_home"] or gone}
    if not module.check_mode:
        if plan.applied != host.applied and not runner.problems:
            record(APPLIED, plan.applied or None)
        if recorded(KEYED) != sorted(keyed):
            record(KEYED, None if gone and not keyed else sorted(keyed))
    problems = plan.problems + runner.problems
    result = {
        "changed": bool(runner.done),
        "actions": runner.done,
        "diff": {"before": "", "after": "".join(f"{words}\n" for words in runner.done)},
    }
    if problems:
        module.fail_json(msg="\n".join(problems), **result)
    if not runner.done and plan.applied == host.applied:
        entry.store({"actions": []})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
