"""Mounted repositories of CVMFS: whether they serve and know their settings. Nothing waits for a hung one."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import hashlib
import json
import os
import pwd
import re
import select
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.files import private_directory

DOCUMENTATION = r"""
module: cvmfs_client
short_description: Check repositories of CVMFS, and let mounted ones take over changed settings
description:
  - Whatever touches a mounted repository is done by a child that nobody waits for after the deadline. A process that
    looks into a hung file system cannot be ended, not even by SIGKILL; it is left behind, and the module goes on.
options:
  state:
    description:
      - V(checked) reads each repository through its mount, fetches an object of it through each proxy, compares the
        object with its hash, what the repository is signed with with the client's keys, and the client's revision with
        the server's. It fails and says which repositories do not serve or cannot be updated, and what
        C(cvmfs_config chksetup) finds wrong then. It warns of versions of the client that are known to hang.
      - V(compared) reports a change when mounted repositories have other settings than those on the disk, as their
        clients say, and when the client of one has ended.
      - V(applied) lets them take over the settings. Those that nobody uses are unmounted, so that the next look mounts
        them again; the others are reloaded, unless a setting differs that a client takes only when it is mounted and
        on which a reload would end it. These wait, and the module says for whom. A shared cache gets its new limit.
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
# What a client takes only when it is mounted. A reload that moves its cache ends it: it is no longer root, cannot make
# the new directory and panics (client 2.12.0).
MOUNT_ONLY = re.compile(
    r"CVMFS_(CACHE_.*|ALIEN_CACHE|SHARED_CACHE|WORKSPACE|NFS_.*|NFILES|MOUNT_RW|SUID|CHECK_PERMISSIONS|ENFORCE_ACLS"
    r"|CPU_AFFINITY|OOM_SCORE_ADJ|FUSE3_.*|LIBRARY_PATH|RELOAD_SOCKETS|SYSTEMD_NOKILL)"
)
# Clients that do not say their settings; see `differences`.
UNKNOWN = "CVMFS_CACHE_"
PINNED = re.compile(r"^CVMFS_(REPOSITORY_(TAG|DATE)|ROOT_HASH)=['\"]?[^'\"\s]|^CVMFS_AUTO_UPDATE='?no", re.MULTILINE)
MEGABYTE = 1 << 20
# Longer than this a client that runs does not take to say its settings.
TALK_SECONDS = 10
# Versions with issue 3993: an unmount that meets an automount can leave a stuck client.
HANGING = re.compile(r"2\.13\.[012](\D|\Z)")
# As whom the client's own check of its setup runs, from client 2.14 on; earlier ones want root.
CLIENT_USER = "cvmfs"
# Besides the time to live of a revision: caches keep the manifest for a minute, kernels what they know for another.
SLACK_SECONDS = 300
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
    # Whoever may mount names the place, in any bytes but those that the kernel escapes.
    for line in os.fsdecode(mounts.read_bytes()).split("\n"):
        before, _, after = line.partition(" - ")
        about, kind = before.split(" "), after.split(" ")[0]
        place = about[4] if len(about) > 5 else ""
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
    """Read a file of a repository through its mount; return its path, and what the client uses, has and is."""
    mount = directory / repository
    file = read_something(mount)
    # The time of the revision is known from client 2.14 on.
    names = ("proxy", "revision", "revision_timestamp", "version")
    return {"file": file, "server": attribute(mount, "host"), **{name: attribute(mount, name) for name in names}}


def downloaded(url: str, proxy: str, seconds: float) -> tuple[bytes, Mapping[str, str]]:
    """Return what is at a URL, and its headers. The environment's proxies do not count; an empty proxy is none."""
    handler = urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else {})
    with urllib.request.build_opener(handler).open(url, timeout=seconds) as answer:
        return answer.read(READ), answer.headers


def download(url: str, proxy: str, seconds: float) -> bytes:
    """Return what is at a URL."""
    return downloaded(url, proxy, seconds)[0]


def manifest_field(manifest: bytes, letter: str) -> str:
    """Return a field of a repository's manifest: X is the certificate, S the revision, D its time to live."""
    for line in manifest.partition(b"\n--\n")[0].splitlines():
        if line.startswith(letter.encode()):
            return line[1:].decode()
    raise ValueError("it answers with something that is no manifest of a repository")


def certificate_url(server: str, manifest: bytes) -> tuple[str, str, str]:
    """Return where the certificate of a repository is, its hash, and the method of the hash."""
    match = re.fullmatch(r"([0-9a-f]{40})(-[a-z0-9]+)?", manifest_field(manifest, "X"))
    if not match:
        raise ValueError("it answers with something that is no manifest of a repository")
    return f"{server}/data/{match[0][:2]}/{match[0][2:]}X", match[1], HASHES.get(match[2] or "", "")


def fetched(server: str, proxy: str, seconds: float) -> str:
    """
    Fetch an object of a repository and compare it with its hash; return its URL.

    The smallest object that each repository has is the certificate that its manifest is signed with.
    """
    url, wanted, method = certificate_url(server, download(f"{server}/.cvmfspublished", proxy, seconds))
    content = download(url, proxy, seconds)
    if method in hashlib.algorithms_available and hashlib.new(method, content).hexdigest() != wanted:
        raise ValueError(f"it answers with something else in place of {url}")
    return url


def recovered(signature: bytes, key: str, kind: str) -> bytes:
    """Return what was signed with the private half of a key, or nothing if it was another key."""
    with tempfile.NamedTemporaryFile(dir=private_directory()) as file:
        file.write(signature)
        file.flush()
        # Not `dgst -verify`: distributions refuse signatures over SHA-1, which is what repositories have.
        command = ["openssl", "pkeyutl", "-verifyrecover", kind, "-inkey", "/dev/stdin", "-in", file.name]
        return subprocess.run(command, input=key.encode(), capture_output=True, check=False).stdout


def distrust(whitelist: bytes, keys: str) -> str:
    """Return why the list of a repository's certificates is not to be trusted with some public keys, or nothing."""
    text, _, rest = whitelist.partition(b"--\n")
    signed, _, signature = rest.partition(b"\n")
    expires = re.search(rb"^E(\d{14})$", text, re.MULTILINE)
    if not expires or not signed:
        return "its server has something that is no list of certificates"
    if expires[1] < time.strftime("%Y%m%d%H%M%S", time.gmtime()).encode():
        return "its list of certificates expired. Those who publish it must sign it again"
    for key in re.findall(r"-----BEGIN .*?-----END [^\n]*\n?", keys, re.DOTALL):
        if recovered(signature, key, "-pubin") == signed:
            return ""
    return "it is signed with none of the public keys that the client has for it"


def distrust_manifest(manifest: bytes, certificate: bytes, whitelist: bytes) -> str:
    """Return why clients would not take a repository's manifest, or nothing. A client that has one keeps it then."""
    text, _, rest = manifest.partition(b"\n--\n")
    named, _, signature = rest.partition(b"\n")
    number, _, suffix = named.decode(errors="replace").partition("-")
    method = HASHES.get(f"-{suffix}" if suffix else "", "")
    if method in hashlib.algorithms_available and hashlib.new(method, text + b"\n").hexdigest() != number:
        return "its manifest is not what was signed"
    try:
        pem = zlib.decompress(certificate).decode()
        fingerprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem), usedforsecurity=False).hexdigest().upper()
    except (ValueError, zlib.error):
        return "its server has something that is no certificate"
    listed = [line.partition(b"#")[0].strip() for line in whitelist.partition(b"\n--\n")[0].splitlines()]
    if fingerprint.encode() not in [line.replace(b":", b"") for line in listed]:
        return "its manifest is signed with a certificate that its list of certificates does not have"
    # In front of the hash stands which one it is.
    if not recovered(signature, pem, "-certin").endswith(hashlib.sha1(named, usedforsecurity=False).digest()):
        return "its manifest has a wrong signature"
    return ""


def distrusted(server: str, ways: list[str], keys: str, seconds: float) -> str:
    """Return why a repository is not to be trusted; the client does not look again at what it has in its cache."""
    for way in ways:
        with contextlib.suppress(OSError):
            whitelist = download(f"{server}/.cvmfswhitelist", way, seconds)
            manifest = download(f"{server}/.cvmfspublished", way, seconds)
            certificate = download(certificate_url(server, manifest)[0], way, seconds)
            return distrust(whitelist, keys) or distrust_manifest(manifest, certificate, whitelist)
    return ""


def age_of(headers: Mapping[str, str]) -> float:
    """Return for how many seconds a server has had something, by its own clock; 0 if it does not say."""
    try:
        at, since = (email.utils.parsedate_to_datetime(headers[name]) for name in ("Date", "Last-Modified"))
        return (at - since).total_seconds() + float(headers.get("Age") or 0)
    except (KeyError, TypeError, ValueError):
        return 0.0


def published(timestamp: str) -> str:
    """Return when a revision was published in words to append, if its client says so."""
    is_time = re.fullmatch(r"[0-9]{9,10}", timestamp)
    return time.strftime(" of %Y-%m-%d %H:%M UTC", time.gmtime(int(timestamp))) if is_time else ""


def behind(server: str, ways: list[str], revision: str, seconds: float, timestamp: str = "") -> str:
    """Return that a client has an older revision than its server for longer than it should, or nothing."""
    for way in ways:
        with contextlib.suppress(OSError, ValueError):
            manifest, headers = downloaded(f"{server}/.cvmfspublished", way, seconds)
            newest, age = manifest_field(manifest, "S"), age_of(headers)
            if int(newest) > int(revision) and age > int(manifest_field(manifest, "D")) + SLACK_SECONDS:
                had = f"{revision}{published(timestamp)}"
                return f"it stays at revision {had}, and its server has {newest} for {age / 60:.0f} minutes"
            return ""
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


def output_of(*command: str) -> str:
    """Return what a program prints; raise what it complains about if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError((done.stderr or done.stdout).strip() or f"{command[0]}: {done.returncode}")
    return done.stdout


def settings_of(repository: str) -> dict[str, str]:
    """Return the first server of a repository, its public keys, and whether it is to stay at one revision."""
    said = output_of("cvmfs_config", "showconfig", repository)
    return {**server_and_keys(repository, said), "pinned": "yes" if PINNED.search(said) else ""}


def setup_errors() -> list[str]:
    """Return the errors that the client's own check finds in its setup, such as a cache that lacks directories."""
    command = ["cvmfs_config", "chksetup"]
    user = pwd.getpwnam(CLIENT_USER)
    groups = os.getgrouplist(CLIENT_USER, user.pw_gid)
    run_it = partial(subprocess.run, command, capture_output=True, text=True, check=False, cwd="/")
    said = run_it(user=user.pw_uid, group=user.pw_gid, extra_groups=groups).stdout
    if "root privileges required" in said:
        said = run_it().stdout
    # Units of systemd mount without autofs.
    return [line for line in said.splitlines() if line.startswith("Error") and "auto.master" not in line]


def hanging(versions: Iterable[str]) -> list[str]:
    """Return what is to be said of versions of the client."""
    return [
        f"Client {version} runs, which can hang for good when an unmount meets an automount (issue 3993 of CVMFS). "
        "Install 2.13.3 or newer."
        for version in sorted(set(versions))
        if HANGING.match(version)
    ]


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
    if is_dead(result):
        return (
            "its client has ended. The next run unmounts it, as umount --lazy does, and whoever looks mounts it again"
        )
    return str(result.get("problem", ""))


def is_dead(result: dict[str, Any] | None) -> bool:
    """Return whether a work found that the client of a mount has ended, which is not the same as one that hangs."""
    return f"[Errno {errno.ENOTCONN}]" in str((result or {}).get("problem", ""))


def check(
    repositories: Iterable[str], proxies: list[str], direct: bool, deadline: int
) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Return what was found out about each repository, what is wrong, and what is not as it should be."""
    names = list(repositories)
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
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
        had = (reads[name] or {}).get("answer", {})
        if server and had.get("revision") and not said.get("pinned"):
            fetches[f"{name} revision"] = partial(
                behind, server, ways, had["revision"], deadline / 2, had["revision_timestamp"]
            )
    results = at_once(fetches, deadline)
    remarks = hanging((read or {}).get("answer", {}).get("version", "") for read in reads.values())
    for name in names:
        trouble = failure(reads[name], deadline)
        found[name] = {"served": not trouble, "problem": trouble, **((reads[name] or {}).get("answer") or {})}
        if trouble:
            problems.append(f"{name} cannot be read: {trouble}.{last_words(name, begin)}")
            if why := failure(settings[name], deadline):
                problems.append(f"{name} has no server: {why}")
        asked = {way: results[f"{name} {way}"] for way in ways if f"{name} {way}" in results}
        dead = {way: why for way, result in asked.items() if (why := failure(result, deadline))}
        trust = results.get(name) or {}
        if why := trust.get("answer", "") or ("" if dead else trust.get("problem", "")):
            problems.append(f"{name} cannot be trusted: {why}.")
        elif why := (results.get(f"{name} revision") or {}).get("answer", ""):
            problems.append(f"{name} is not updated: {why}.{last_words(name, begin)}")
        words = [
            f"{name} cannot be fetched {f'through {shown(way)}' if way else 'directly'}: {dead[way]}" for way in dead
        ]
        # One proxy of several may be down: that is what the others are for.
        enough = len(dead) < len(asked) or (direct and bool(proxies))
        (remarks if enough else problems).extend(words)
        found[name]["fetched_through"] = [shown(way) or "DIRECT" for way in asked if way not in dead]
    if not all(read["served"] for read in found.values()):
        # It asks each server through each proxy, which takes too long while all is well.
        setup = at_once({"": setup_errors}, deadline / 2)[""] or {}
        problems += [f"cvmfs_config chksetup says: {line}" for line in setup.get("answer", [])]
    return found, problems, remarks


def fingerprint(settings: Path = SETTINGS) -> str:
    """Return a hash over all files of the settings."""
    total = hashlib.sha256()
    for path in sorted(path for path in settings.rglob("*") if path.is_file()):
        total.update(f"{path}\0{path.stat().st_mode}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def recorded(stamp: Path = STAMP) -> dict[str, Any]:
    """
    Return what was applied last.

    That is the fingerprint of the C(settings), by repository the differences that were C(acted) upon and may have to
    wait, and the C(limits) of shared caches by their processes, which nobody can ask.
    """
    try:
        found: dict[str, Any] = json.loads(stamp.read_text())
    except (OSError, ValueError):
        found = {}
    return {"settings": "", "acted": {}, "limits": {}, **(found if isinstance(found, dict) else {})}


def run(*command: str) -> str:
    """Run a program; return what it complains about if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr or done.stdout).strip() or f"{command[0]}: {done.returncode}"


def parameters(text: str, repository: str) -> dict[str, tuple[str, str]]:
    """Return value and source of each parameter as the client and its tool print them, without what is not set."""
    found = {}
    for name, value, source in re.findall(r"^(CVMFS_\w+)=(.*?)(?: {4}# from (.*))?$", text, re.MULTILINE):
        plain = value[1:-1].replace("\\'", "'") if re.fullmatch(r"'.*'", value) else value
        org = repository.partition(".")[0]
        if plain:
            found[name] = plain.replace("@fqrn@", repository).replace("@org@", org), source
    return found


def differences(repository: str) -> dict[str, str]:
    """Return the parameters that a mounted client has otherwise than the disk, each with what the disk says."""
    wanted = parameters(output_of("cvmfs_config", "showconfig", repository), repository)
    try:
        known = parameters(output_of("cvmfs_talk", "-i", repository, "parameters"), repository)
    except OSError:
        # Its socket is not where the settings have it: it was mounted with others.
        return {UNKNOWN: "cannot be asked"}
    # What the client knows from elsewhere than files it has worked out itself.
    names = {name for name, (_, source) in known.items() if source.startswith("/")}
    names |= {name for name, (_, source) in wanted.items() if source.startswith("/")}
    if wanted.get("CVMFS_SHARED_CACHE", ("", ""))[0] == "yes":
        # The limit is that of the cache's own process.
        names -= {"CVMFS_QUOTA_LIMIT"}
    pairs = {name: (known.get(name, ("", ""))[0], wanted.get(name, ("", ""))[0]) for name in names}
    return {name: disk for name, (client, disk) in sorted(pairs.items()) if client != disk}


def state_of(repository: str) -> dict[str, Any]:
    """Return how the client of a mounted repository differs from the disk, after a look whether it lives."""
    os.stat(MOUNTS / repository)
    return {"differs": differences(repository)}


def arguments_of(number: str) -> list[str]:
    """Return the command line of a process, or nothing if it has ended."""
    with contextlib.suppress(OSError):
        return Path("/proc", number, "cmdline").read_text(errors="replace").split("\0")
    return []


def users_of(repository: str) -> str:
    """Return the names of those who use a repository."""
    place, users = f"{MOUNTS / repository}/", set()
    for process in Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at, or close files.
        with contextlib.suppress(OSError):
            for link in (process / "cwd", process / "exe", *(process / "fd").iterdir()):
                with contextlib.suppress(OSError):
                    if f"{os.readlink(link)}/".startswith(place):
                        users.add(process.stat().st_uid)
    names = []
    for uid in sorted(users):
        try:
            names.append(pwd.getpwuid(uid).pw_name)
        except KeyError:
            names.append(str(uid))
    return ", ".join(names) or "somebody"


def wait_for_end(repository: str, seconds: float = 5.0) -> None:
    """Wait until the client of an unmounted repository has ended; a look before may hang (client 2.13.0 to 2.13.2)."""
    place, end = str(MOUNTS / repository), time.monotonic() + seconds
    while time.monotonic() < end:
        lines = [arguments_of(process.name) for process in Path("/proc").glob("[0-9]*")]
        if not any(place in line and any(word.endswith("cvmfs2") for word in line[:2]) for line in lines):
            return
        time.sleep(0.1)


def renew(repository: str, is_gone: bool) -> dict[str, str]:
    """Unmount a repository that nobody uses, reload one that somebody uses; return what went wrong or waits."""
    if is_gone:
        return {"problem": run("umount", "--lazy", str(MOUNTS / repository))}
    if not run("umount", str(MOUNTS / repository)):
        wait_for_end(repository)
        return {}
    waits = [name for name in differences(repository) if MOUNT_ONLY.fullmatch(name)]
    if waits:
        return {"waits": waiting_for(repository, waits)}
    return {"problem": run("cvmfs_config", "reload", repository)}


def waiting_for(repository: str, names: list[str]) -> str:
    """Return that a repository waits to be mounted again, and for whom."""
    settings = ", ".join(name for name in names if name != UNKNOWN) or "the place of its cache"
    return (
        f"{repository} waits with {settings}, which its client takes only when it is mounted, until it is no longer "
        f"used by {users_of(repository)}"
    )


def caches() -> dict[str, tuple[str, int]]:
    """Return the shared caches that are in use, by their processes: directory and limit in megabytes at their start."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        line = arguments_of(process.name)
        if "__cachemgr__" in line[1:2] and len(line) > 5:
            with contextlib.suppress(OSError, ValueError):
                fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
                found[f"{process.name} {fields[19]}"] = line[2], int(line[5]) // MEGABYTE
    return found


def wanted_limit(repository: str) -> dict[str, Any]:
    """Return where the shared cache of a repository is and what the disk says of its limit, or nothing."""
    found = parameters(output_of("cvmfs_config", "showconfig", repository), repository)
    value = {name: found.get(f"CVMFS_{name}", ("", ""))[0] for name in ("SHARED_CACHE", "CACHE_BASE", "QUOTA_LIMIT")}
    if value["SHARED_CACHE"] != "yes" or not re.fullmatch(r"[0-9]+", value["QUOTA_LIMIT"]):
        return {}
    return {"directory": f"{value['CACHE_BASE']}/shared", "limit": int(value["QUOTA_LIMIT"]), "repository": repository}


def wrong_limits(names: list[str], limits: Mapping[str, int], deadline: float) -> dict[str, dict[str, Any]]:
    """Return the shared caches that have another limit than the disk says, by their processes."""
    there = caches()
    if not there:
        return {}
    results = at_once({name: partial(wanted_limit, name) for name in names}, deadline)
    wanted = {found["directory"]: found for result in results.values() if (found := (result or {}).get("answer"))}
    return {
        process: {**wanted[directory], "has": limits.get(process, limit)}
        for process, (directory, limit) in there.items()
        if directory in wanted and wanted[directory]["limit"] != limits.get(process, limit)
    }


def set_limit(repository: str, limit: int) -> str:
    """Set the limit of the shared cache that a repository uses; return what the client answers if it does not."""
    said = output_of("cvmfs_talk", "-i", repository, "cache", "limit", "set", str(limit)).strip()
    return "" if said == "OK" else said


class Comparison:
    """What mounted repositories have otherwise than the disk."""

    def __init__(self, deadline: float) -> None:
        """Ask their clients."""
        self.record = recorded()
        self.settings = fingerprint()
        # Those that configure others come last, for the others use them.
        self.names = sorted(mounted(), key=lambda name: "config" in name)
        found = at_once({name: partial(state_of, name) for name in self.names}, deadline)
        self.dead = {name for name in self.names if is_dead(found[name])}
        self.differs = {name: (found[name] or {}).get("answer", {}).get("differs", {}) for name in self.names}
        asked = [name for name in self.names if "answer" in (found[name] or {})]
        self.limits = wrong_limits(asked, self.record["limits"], deadline)

    def is_stale(self) -> bool:
        """Return whether there is something to apply; what was acted upon already waits or makes no difference."""
        acted = self.record["acted"]
        differs = any(found and acted.get(name) != found for name, found in self.differs.items())
        limits = any(acted.get(process) != found["limit"] for process, found in self.limits.items())
        return bool(self.names) and (self.record["settings"] != self.settings or bool(self.dead) or differs or limits)

    def waits(self) -> list[str]:
        """Return what still waits."""
        found = {name: [key for key in found if MOUNT_ONLY.fullmatch(key)] for name, found in self.differs.items()}
        caches_that_wait = [limit_waits(found) for found in self.limits.values()]
        return [waiting_for(name, keys) for name, keys in found.items() if keys] + caches_that_wait

    def write(self, **applied: Any) -> None:
        """Remember what was applied, and what was acted upon and differs still."""
        acted = {name: found for name, found in self.record["acted"].items() if self.differs.get(name) == found}
        acted |= {key: limit for key, limit in self.record["acted"].items() if key in self.limits}
        STAMP.write_text(json.dumps({**self.record, "acted": acted, **applied}))


def limit_waits(found: Mapping[str, Any]) -> str:
    """Return that a shared cache keeps its limit."""
    return (
        f"The shared cache {found['directory']} keeps its limit of {found['has']} megabytes in place of "
        f"{found['limit']} until no repository is used; a client from 2.12 on takes the new one at once"
    )


def apply(compared: Comparison, repositories: list[str], restart_autofs: bool, deadline: int) -> list[str]:
    """Let all mounted repositories take over the settings; return what went wrong and what waits."""
    wrong, waits = [], []
    acted: dict[str, Any] = {}
    for name in compared.names:
        result = at_once({name: partial(renew, name, name in compared.dead)}, deadline)[name]
        done = (result or {}).get("answer", {})
        if trouble := failure(result, deadline) or done.get("problem", ""):
            wrong.append(f"{name} did not take over its settings: {trouble}")
        else:
            acted[name] = compared.differs[name]
            waits += [done["waits"]] if "waits" in done else []
    limits = dict(compared.record["limits"])
    # Not all repositories have to be mounted still.
    for process, found in wrong_limits(mounted(), limits, TALK_SECONDS).items():
        result = at_once({process: partial(set_limit, found["repository"], found["limit"])}, TALK_SECONDS)[process]
        if failure(result, TALK_SECONDS) or (result or {})["answer"]:
            waits.append(limit_waits(found))
            acted[process] = found["limit"]
        else:
            limits[process] = found["limit"]
    if not wrong:
        limits = {process: limit for process, limit in limits.items() if process in caches()}
        compared.write(settings=compared.settings, acted=acted, limits=limits)
    if restart_autofs:
        # What was looked for in vain once is not looked for again.
        looks = at_once({name: partial(os.path.samefile, MOUNTS / name, MOUNTS) for name in repositories}, deadline)
        if any("FileNotFoundError" in (look or {}).get("problem", "") for look in looks.values()):
            run("systemctl", "reset-failed", "autofs.service")
            run("systemctl", "restart", "autofs.service")
    return wrong + waits


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
        compared = Comparison(TALK_SECONDS)
        stale = compared.is_stale()
        if not stale:
            for remark in compared.waits():
                module.warn(remark)
            if not module.check_mode:
                compared.write(settings=compared.settings)
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
        compared = Comparison(TALK_SECONDS)
        wrong = apply(compared, wanted["repositories"], wanted["restart_autofs"], deadline)
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
