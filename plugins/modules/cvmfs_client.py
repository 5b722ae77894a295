"""Mounted repositories of CVMFS: whether they serve and know their settings. Nothing waits for a hung one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: cvmfs_client
short_description: Check repositories of CVMFS, and let mounted ones take over changed settings
description:
  - Whatever touches a mounted repository is done by a child that nobody waits for after the deadline. A process that
    looks into a hung file system cannot be ended, not even by SIGKILL; it is left behind, and the module goes on.
options:
  state:
    description:
      - V(checked) reads each repository through its mount, fetches an object of it through each proxy, and compares the
        object with its hash and what the repository is signed with, with the client's keys. It fails and says which
        repositories do not serve.
      - V(compared) reports a change when repositories are mounted that have not taken over the settings on the disk.
      - V(applied) lets them take over the settings. Those that nobody uses are unmounted, so that the next look mounts
        them anew; the others are reloaded.
      - V(unmounted) unmounts all.
    type: str
    choices: [checked, compared, applied, unmounted]
    required: true
  repositories:
    description: Full names of the repositories.
    type: list
    elements: str
    default: []
  proxies:
    description: URLs of the proxies that are asked in V(checked).
    type: list
    elements: str
    default: []
  direct:
    description: Whether it is enough when a repository is reached without a proxy. Dead proxies are a warning then.
    type: bool
    default: false
  restart_autofs:
    description: Whether autofs is restarted in V(applied) if a repository cannot be found, for it remembers that.
    type: bool
    default: false
  deadline:
    description: Seconds after which a repository does not answer.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Check that the software of CERN is there
  cvmfs_client:
    state: checked
    repositories: [sft.cern.ch]
    proxies: ["http://squid.example.org:3128"]
"""

RETURN = r"""
repositories:
  description: What was found out about each repository.
  returned: when checked
  type: dict
"""

MOUNTS = Path("/cvmfs")
SETTINGS = Path("/etc/cvmfs")
STAMP = Path("/run/campushub-cvmfs")
HASHES = {"": "sha1", "-rmd160": "ripemd160"}
# A file of this size is read to its end; of others the first part will do.
READ = 1 << 20
ENTRIES = 200


class Detached:
    """Work that is done in a process of its own, which is not waited for when it hangs."""

    def __init__(self, work: Callable[[], Any]) -> None:
        """Start it; what it returns must fit into JSON."""
        self.reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            self._run(work, writing)
        os.close(writing)
        # The first child ends at once and leaves its own one to init.
        os.waitpid(child, 0)

    def _run(self, work: Callable[[], Any], writing: int) -> None:
        try:
            os.setsid()
            if os.fork():
                os._exit(0)
            # Who started this module waits until nobody holds its output any more.
            nothing = os.open(os.devnull, os.O_RDWR)
            for handle in (0, 1, 2):
                os.dup2(nothing, handle)
            os.close(self.reading)
            os.write(writing, f"{os.getpid()}\n".encode())
            try:
                answer = {"answer": work()}
            except Exception as error:  # noqa: BLE001  # whatever it is, it is an answer
                answer = {"problem": f"{type(error).__name__}: {error}"}
            with open(writing, "wb") as file:
                file.write(json.dumps(answer).encode())
        finally:
            os._exit(0)

    def result(self, end: float) -> dict[str, Any] | None:
        """Return C(answer) or C(problem), or None when there is none at the time `end` of the monotonic clock."""
        said = b""
        while True:
            ready, _, _ = select.select([self.reading], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                break
            part = os.read(self.reading, 1 << 16)
            if not part:
                break
            said += part
        os.close(self.reading)
        number, _, text = said.partition(b"\n")
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            with contextlib.suppress(OSError, ValueError):
                os.killpg(os.getpgid(int(number)), signal.SIGKILL)
            return None
        return found


def at_once(works: dict[str, Callable[[], Any]], deadline: float) -> dict[str, dict[str, Any] | None]:
    """Do all works side by side; return for each its result, or None for those that took longer than the deadline."""
    end = time.monotonic() + deadline
    started = {name: Detached(work) for name, work in works.items()}
    return {name: work.result(end) for name, work in started.items()}


def mounted(mounts: Path = Path("/proc/self/mountinfo"), directory: Path = MOUNTS) -> list[str]:
    """Return the repositories that are mounted. The table is read, and no mount is touched."""
    found = []
    for line in mounts.read_text().splitlines():
        before, _, after = line.partition(" - ")
        place, kind = before.split()[4], after.split()[0]
        if kind.startswith("fuse") and place.startswith(f"{directory}/"):
            found.append(place.removeprefix(f"{directory}/"))
    return sorted(set(found))


def read_something(directory: Path) -> str:
    """Read the first regular file that is found, the flattest first, and return its path."""
    waiting, seen = [directory], 0
    while waiting and seen < ENTRIES:
        with os.scandir(waiting.pop(0)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                seen += 1
                if entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(PermissionError), open(entry.path, "rb") as file:
                        file.read(READ)
                        return entry.path
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
    raise FileNotFoundError(f"no file among the first {seen} entries")


def attribute(directory: Path, name: str) -> str:
    """Return an extended attribute of a mounted repository, or nothing."""
    with contextlib.suppress(OSError):
        return os.getxattr(directory, f"user.{name}").decode()
    return ""


def serves(repository: str, directory: Path = MOUNTS) -> dict[str, str]:
    """Read a file of a repository through its mount; return its path, and which server and proxy the client uses."""
    mount = directory / repository
    return {"file": read_something(mount), "server": attribute(mount, "host"), "proxy": attribute(mount, "proxy")}


def download(url: str, proxy: str, seconds: float) -> bytes:
    """Return what is at a URL. The environment's proxies do not count; an empty proxy is none."""
    handler = urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else {})
    with urllib.request.build_opener(handler).open(url, timeout=seconds) as answer:
        content: bytes = answer.read(READ)
        return content


def certificate_hash(manifest: bytes) -> str:
    """Return the name of the object that has the certificate of a repository, from its manifest."""
    for line in manifest.partition(b"\n--\n")[0].splitlines():
        if line.startswith(b"X"):
            return line[1:].decode()
    raise ValueError("it answers with something that is no manifest of a repository")


def fetched(server: str, proxy: str, seconds: float) -> str:
    """
    Fetch an object of a repository and compare it with its hash; return its URL.

    The smallest object that each repository has is the certificate that its manifest is signed with.
    """
    name = certificate_hash(download(f"{server}/.cvmfspublished", proxy, seconds))
    match = re.fullmatch(r"([0-9a-f]{40})(-[a-z0-9]+)?", name)
    if not match:
        raise ValueError("it answers with something that is no manifest of a repository")
    url = f"{server}/data/{name[:2]}/{name[2:]}X"
    content = download(url, proxy, seconds)
    method = HASHES.get(match[2] or "")
    if method in hashlib.algorithms_available and hashlib.new(method or "", content).hexdigest() != match[1]:
        raise ValueError(f"it answers with something else in place of {url}")
    return url


def distrust(whitelist: bytes, keys: str) -> str:
    """Return why the list of a repository's certificates is not to be trusted with some public keys, or nothing."""
    text, _, rest = whitelist.partition(b"--\n")
    signed, _, signature = rest.partition(b"\n")
    expires = re.search(rb"^E(\d{14})$", text, re.MULTILINE)
    if not expires or not signed:
        return "its server has something that is no list of certificates"
    if expires[1] < time.strftime("%Y%m%d%H%M%S", time.gmtime()).encode():
        return "its list of certificates expired. Those who publish it must sign it anew"
    with tempfile.NamedTemporaryFile() as file:
        file.write(signature)
        file.flush()
        command = ["openssl", "pkeyutl", "-verifyrecover", "-pubin", "-inkey", "/dev/stdin", "-in", file.name]
        for key in re.findall(r"-----BEGIN .*?-----END [^\n]*\n?", keys, re.DOTALL):
            if subprocess.run(command, input=key.encode(), capture_output=True, check=False).stdout == signed:
                return ""
    return "it is signed with none of the public keys that the client has for it"


def distrusted(server: str, ways: list[str], keys: str, seconds: float) -> str:
    """Return why a repository is not to be trusted; the client does not look again at what it has in its cache."""
    for way in ways:
        with contextlib.suppress(OSError):
            return distrust(download(f"{server}/.cvmfswhitelist", way, seconds), keys)
    return ""


def server_and_keys(repository: str, settings: str) -> dict[str, str]:
    """Return the first server of a repository and its public keys from what the client's tool says of its settings."""
    found = dict(re.findall(r"^CVMFS_(SERVER_URL|KEYS_DIR|PUBLIC_KEY)='?([^;'\s]+)", settings, re.MULTILINE))
    if "SERVER_URL" not in found:
        raise ValueError("the client knows no server of it. Is its name right, and does the client know its domain?")
    name, _, _ = repository.partition(".")
    server = found["SERVER_URL"].replace("@fqrn@", repository).replace("@org@", name)
    named = [Path(path) for path in found.get("PUBLIC_KEY", "").split(":") if path]
    paths = named or sorted(Path(found.get("KEYS_DIR", "/etc/cvmfs/keys")).glob("*.pub"))
    return {"server": server, "keys": "".join(path.read_text() for path in paths)}


def settings_of(repository: str) -> dict[str, str]:
    """Return the first server of a repository and its public keys."""
    said = subprocess.run(
        ["cvmfs_config", "showconfig", repository], capture_output=True, text=True, check=False
    ).stdout
    return server_and_keys(repository, said)


def shown(proxy: str) -> str:
    """Return the URL of a proxy without the password that it may carry."""
    return re.sub(r"(?<=//)[^/@]*@", "…@", proxy)


def last_words(repository: str, since: float) -> str:
    """Return the last two things that the client said of a repository after a time of the clock, if it is known."""
    # A look-up that failed a few seconds ago is not tried again, so it is about that one.
    command = ["journalctl", "--quiet", "--identifier=cvmfs2", f"--since=@{int(since) - 15}", "--output=cat"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    begin = f"({repository}) "
    words = [line.removeprefix(begin) for line in said.splitlines() if line.startswith(begin)]
    return f" The client says: {shown('; '.join(words[-2:]))}" if words else ""


def failure(result: dict[str, Any] | None, deadline: int) -> str:
    """Return why a work did not succeed, or nothing."""
    if result is None:
        return f"no answer in {deadline} s"
    return str(result.get("problem", ""))


def check(
    repositories: Iterable[str], proxies: list[str], direct: bool, deadline: int
) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Return what was found out about each repository, what is wrong, and what is not as it should be."""
    names = list(repositories)
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    remarks: list[str] = []
    begin = time.time()
    reads = at_once({name: partial(serves, name) for name in names}, deadline)
    settings = at_once({name: partial(settings_of, name) for name in names}, deadline)
    ways = proxies or ([""] if direct else [])
    fetches: dict[str, Callable[[], Any]] = {}
    for name in names:
        said = (settings[name] or {}).get("answer", {})
        server = (reads[name] or {}).get("answer", {}).get("server") or said.get("server", "")
        for way in ways if server else []:
            fetches[f"{name} {way}"] = partial(fetched, server, way, deadline / 2)
        if server and said.get("keys"):
            fetches[name] = partial(distrusted, server, ways, said["keys"], deadline / 2)
    results = at_once(fetches, deadline)
    for name in names:
        trouble = failure(reads[name], deadline)
        found[name] = {"served": not trouble, "problem": trouble, **((reads[name] or {}).get("answer") or {})}
        if trouble:
            problems.append(f"{name} cannot be read: {trouble}.{last_words(name, begin)}")
            if why := failure(settings[name], deadline):
                problems.append(f"{name} has no server: {why}")
        if why := (results.get(name) or {}).get("answer", ""):
            problems.append(f"{name} cannot be trusted: {why}.")
        asked = {way: results[f"{name} {way}"] for way in ways if f"{name} {way}" in results}
        dead = {way: why for way, result in asked.items() if (why := failure(result, deadline))}
        words = [
            f"{name} cannot be fetched {f'through {shown(way)}' if way else 'directly'}: {dead[way]}" for way in dead
        ]
        # One proxy of several may be down: that is what the others are for.
        enough = len(dead) < len(asked) or (direct and bool(proxies))
        (remarks if enough else problems).extend(words)
        found[name]["fetched_through"] = [shown(way) or "DIRECT" for way in asked if way not in dead]
    return found, problems, remarks


def fingerprint(settings: Path = SETTINGS) -> str:
    """Return a hash over all files of the settings."""
    total = hashlib.sha256()
    for path in sorted(path for path in settings.rglob("*") if path.is_file()):
        total.update(f"{path}\0{path.stat().st_mode}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def taken_over(stamp: Path = STAMP) -> str:
    """Return the hash of the settings that were taken over last, or nothing."""
    try:
        return stamp.read_text()
    except OSError:
        return ""


def run(*command: str) -> str:
    """Run a program; return what it complains about if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr or done.stdout).strip() or f"{command[0]}: {done.returncode}"


def renew(repository: str) -> str:
    """Unmount a repository that nobody uses, reload one that somebody uses; return what went wrong."""
    if not run("umount", str(MOUNTS / repository)):
        return ""
    return run("cvmfs_config", "reload", repository)


def apply(repositories: list[str], restart_autofs: bool, deadline: int) -> list[str]:
    """Let all mounted repositories take over the settings; return what went wrong."""
    # Those that configure others come last, for the others use them.
    names = sorted(mounted(), key=lambda name: "config" in name)
    wrong = []
    for name in names:
        result = at_once({name: partial(renew, name)}, deadline)[name]
        trouble = failure(result, deadline) or (result or {}).get("answer", "")
        if trouble:
            wrong.append(f"{name} did not take over its settings: {trouble}")
    if restart_autofs:
        # What was looked for in vain once is not looked for again.
        looks = at_once({name: partial(os.path.samefile, MOUNTS / name, MOUNTS) for name in repositories}, deadline)
        if any("FileNotFoundError" in (look or {}).get("problem", "") for look in looks.values()):
            run("systemctl", "reset-failed", "autofs.service")
            run("systemctl", "restart", "autofs.service")
    return wrong


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["checked", "compared", "applied", "unmounted"], "required": True},
            "repositories": {"type": "list", "elements": "str", "default": []},
            "proxies": {"type": "list", "elements": "str", "default": []},
            "direct": {"type": "bool", "default": False},
            "restart_autofs": {"type": "bool", "default": False},
            "deadline": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    deadline = wanted["deadline"]
    if wanted["state"] == "compared":
        now = fingerprint()
        stale = bool(mounted()) and taken_over() != now
        if not stale and not module.check_mode:
            STAMP.write_text(now)
        module.exit_json(changed=stale)
    if wanted["state"] == "checked":
        found, problems, remarks = check(wanted["repositories"], wanted["proxies"], wanted["direct"], deadline)
        for remark in remarks:
            module.warn(remark)
        if problems:
            module.fail_json(msg="\n".join(problems), repositories=found)
        module.exit_json(changed=False, repositories=found)
    names = mounted()
    if module.check_mode:
        module.exit_json(changed=bool(names))
    if wanted["state"] == "applied":
        now = fingerprint()
        wrong = apply(wanted["repositories"], wanted["restart_autofs"], deadline)
        if not wrong:
            STAMP.write_text(now)
    else:
        results = at_once({name: partial(run, "umount", "--lazy", str(MOUNTS / name)) for name in names}, deadline)
        wrong = [
            f"{name}: {why}"
            for name in names
            if (why := failure(results[name], deadline) or (results[name] or {})["answer"])
        ]
        STAMP.unlink(missing_ok=True)
    for remark in wrong:
        module.warn(remark)
    module.exit_json(changed=bool(names))


if __name__ == "__main__":
    main()
