"""Python environments in versions that are switched, never changed in place."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.result_cache import CacheEntry

DOCUMENTATION = r"""
module: python_environment
short_description: Build a Python environment from a lock and switch to it
extends_documentation_fragment: [result_cache]
description:
  - Keeps an environment as O(path), a symbolic link, and its versions as directories beside it, named
    C(<path>-<key>). The key is made from everything that decides what is in the environment, so a change of the
    lock is a new directory, and a switch of the link.
  - A version is never changed once it is complete. What runs from an older version keeps it, and giving the older
    settings again switches back at once.
  - A build that fails or is cut off leaves the link alone. The next run starts that version again.
  - Everything belongs to the user who runs the module (root) and is readable by all, whatever the umask.
options:
  path:
    description: The link through which the environment is used.
    type: path
    required: true
  requirements:
    description:
      - Text of the locked requirements, each with its hashes, as C(uv pip compile --generate-hashes) writes it.
      - Required while O(state=present).
    type: str
  overrides:
    description:
      - Text of the overrides that O(requirements) was locked with. They hold for what O(extra_packages) need, too.
      - An override of a package that O(extra_packages) names is left out.
    type: str
    default: ""
  extra_packages:
    description:
      - Packages of the site, as specifiers such as C(astropy>=6). What they need beyond the lock is installed into a
        directory of its own within the version, C(layer), and is found by Python, and its programs, Jupyter
        extensions and settings by whoever looks under the environment.
      - The lock wins. A package that would need another version of something locked is refused, with the reason.
      - Specifiers are resolved when the version is built, not at every run.
    type: list
    elements: str
    default: []
  projects:
    description:
      - Packages of our own, as directories on the controller with their sources. They are built there, once for the
        same sources, and installed in addition to those of the lock, which has what they need.
    type: list
    elements: path
  wheels:
    description: What O(projects) are built into, in base64, by the names of the files. Set by the action plugin.
    type: dict
    default: {}
  completed_by:
    description:
      - Texts of files by their names. The first is a program that puts more into a version that is built. It is called
        with the version's directory, and finds the others beside itself. Another text is another version.
    type: dict
    default: {}
  python:
    description: The interpreter.
    type: path
    default: /usr/bin/python3
  user_site:
    description:
      - Whether packages that people install with C(pip install --user) are seen, after those of the environment.
      - The packages of the distribution stay out of sight either way.
    type: bool
    default: false
  programs:
    description:
      - Python programs to put among those of the environment, in place of one of the same name. Keys are names,
        values are texts without a first line for the interpreter.
      - They do not look at people's own packages, so that a broken one cannot keep them from starting. What they
        start does, with O(user_site=true).
    type: dict
    default: {}
  isolated_programs:
    description: Names of O(programs) that use the standard library only, and start without looking for any package.
    type: list
    elements: str
    default: []
  files:
    description: Other files to put into the environment, texts by their paths within it, in place of those of packages.
    type: dict
    default: {}
  uv:
    description: The installer.
    type: path
    default: /opt/campushub/uv/bin/uv
  keep:
    description: How many older versions stay for a quick way back. One that a process uses stays as well.
    type: int
    default: 1
  state:
    description: With V(absent), the link and all versions are removed.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Install the environment in which the hub runs
  python_environment:
    path: /opt/campushub/hub
    requirements: "{{ lookup('ansible.builtin.file', 'requirements.txt') }}"
"""

RETURN = r"""
version:
  description: Key of the version that O(path) leads to.
  returned: state is present
  type: str
directory:
  description: Directory of that version.
  returned: state is present
  type: str
built:
  description: Whether the version had to be built.
  returned: state is present
  type: bool
removed:
  description: Directories of versions that were removed.
  returned: always
  type: list
  elements: str
"""

MARKER = ".complete"
# The packages' own tests are half of the modules, and nobody imports them. Some have templates that are no Python as
# they are, so the exit status says nothing.
COMPILE = """
find "$@" -name '*.py' -not -path '*/tests/*' -print0 |
  xargs -0 -n 400 -P "$(nproc)" "$0/bin/python" -I -m compileall -q
"""
LAYER = "layer"
KEY_LENGTH = 12


class BuildError(Exception):
    """A version cannot be built; the text says why."""


def project(text: str) -> str:
    """Return the name that a requirement or folder of metadata starts with, in the form in which names are compared."""
    name = re.match(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", text)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""


def last_lines(text: str, count: int = 25) -> str:
    """Return the end of a program's output, where it says what went wrong."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-count:])


class Environment:
    """A link to one of several versions of an environment."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Take over the module's settings."""
        self.link = Path(settings["path"])
        self.lock = self.link.with_name(f"{self.link.name}.lock")
        self.requirements: str = settings["requirements"] or ""
        self.overrides: str = settings["overrides"]
        self.extra_packages: list[str] = settings["extra_packages"]
        self.wheels = {name: base64.b64decode(text) for name, text in settings["wheels"].items()}
        self.completed_by: dict[str, str] = settings["completed_by"]
        self.python: str = settings["python"]
        self.user_site: bool = settings["user_site"]
        self.programs: dict[str, str] = settings["programs"]
        self.isolated_programs: list[str] = settings["isolated_programs"]
        self.files: dict[str, str] = settings["files"]
        self.uv: str = settings["uv"]
        self.keep: int = settings["keep"]

    # What there is

    def key(self) -> str:
        """Name what the settings describe: the same settings, the same name."""
        described = json.dumps(
            [
                self.requirements.strip(),
                self.overrides.strip(),
                sorted(self.extra_packages),
                self.python_version(),
                self.user_site,
                self.programs,
                *map(sorted, [self.isolated_programs] if self.isolated_programs else []),
                *([self.files] if self.files else []),
                *[hashlib.sha256(wheel).hexdigest() for wheel in self.wheels.values()],
                *[hashlib.sha256(text.encode()).hexdigest() for text in self.completed_by.values()],
            ],
            sort_keys=True,
        )
        return hashlib.sha256(described.encode()).hexdigest()[:KEY_LENGTH]

    def python_version(self) -> str:
        """Return the interpreter's version. Its patch level changes nothing in an environment."""
        program = "import sys; print('%s %d.%d' % ((sys.implementation.name,) + sys.version_info[:2]))"
        try:
            return subprocess.run(
                [self.python, "-I", "-S", "-c", program], check=True, capture_output=True, text=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            raise BuildError(f"the interpreter {self.python} does not run: {error}") from error

    def directory(self, key: str) -> Path:
        """Return where a version lies."""
        return self.link.with_name(f"{self.link.name}-{key}")

    def versions(self) -> list[Path]:
        """Return the directories of all versions, whether complete or not, and the links in place of removed ones."""
        name = re.compile(re.escape(self.link.name) + rf"-[0-9a-f]{{{KEY_LENGTH}}}")
        if not self.link.parent.is_dir():
            return []
        return [entry for entry in self.link.parent.iterdir() if name.fullmatch(entry.name)]

    def current(self) -> Path | None:
        """Return the version that the link leads to."""
        return self.link.parent / os.readlink(self.link) if self.link.is_symlink() else None

    @staticmethod
    def complete(directory: Path) -> bool:
        """Tell whether a version was built to its end and still has its interpreter."""
        return not directory.is_symlink() and (directory / MARKER).is_file() and (directory / "bin/python").exists()

    def cache_entry(self, name: str | None) -> CacheEntry:
        """Prepare to remember that there is nothing to change."""
        interpreters = [self.python, str(self.link / "bin/python")]
        current = [self.link, self.link.resolve() / MARKER]
        described = [*interpreters, *map(os.path.realpath, interpreters)]
        return CacheEntry(name, [*map(str, current), *described], [f"{self.link}-*"])

    # Change it

    def switch(self, directory: Path) -> None:
        """Let the link lead to a version. At no moment is there no link."""
        new = self.link.with_name(f".{self.link.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(directory.name)
        new.rename(self.link)
        # The versions used last are the ones to keep.
        os.utime(directory / MARKER)

    def superfluous(self, current: Path | None, keep: int) -> list[Path]:
        """Return versions that were never finished, and those beyond the ones to keep that nothing runs from."""
        old = self.beyond(current, keep)
        if old:
            used = used_directories(old)
            old = [directory for directory in old if directory not in used]
        return old

    def beyond(self, current: Path | None, keep: int) -> list[Path]:
        """Return versions that were never finished, and those beyond the ones to keep."""
        others = [directory for directory in self.versions() if directory != current and not directory.is_symlink()]
        finished = [directory for directory in others if self.complete(directory)]
        finished.sort(key=lambda directory: (directory / MARKER).stat().st_mtime, reverse=True)
        return [directory for directory in others if directory not in finished[:keep]]

    def prune(self, current: Path | None, keep: int) -> list[Path]:
        """Remove what is superfluous and return it."""
        old = self.superfluous(current, keep)
        for directory in old:
            finished = self.complete(directory)
            remove(directory)
            if self.user_site and finished:
                # What people installed for themselves names the interpreter it was installed with.
                directory.symlink_to(self.link.name)
        return old

    def build(self, directory: Path) -> None:
        """Make a version; its marker comes last."""
        if not os.access(self.uv, os.X_OK):
            raise BuildError(f"{self.uv} is missing; role base installs it")
        remove(directory)
        # Within the same file system, so that files are linked into the version and not copied.
        with tempfile.TemporaryDirectory(prefix=f".{self.link.name}-", dir=self.link.parent) as scratch:
            work = Path(scratch)
            lock = work / "requirements.txt"
            lock.write_text(self.requirements + "\n")
            try:
                # A refusal costs a second here, and a minute after the installation.
                extra = self.resolve(lock, work) if self.extra_packages else []
                site_cfg = ["--system-site-packages"] if self.user_site else []
                self.run_uv(work, "venv", "--python", self.python, *site_cfg, str(directory))
                self.install(work, directory, "--require-hashes", "--requirement", str(lock))
                if self.wheels:
                    for name, wheel in self.wheels.items():
                        (work / name).write_bytes(wheel)
                    self.install(work, directory, "--no-index", *(str(work / name) for name in self.wheels))
                if extra:
                    self.add_layer(work, directory, extra)
                self.byte_compile(directory)
                if self.completed_by:
                    self.add_more(work, directory)
                self.finish(directory)
            except BaseException:
                remove(directory)
                raise

    def resolve(self, lock: Path, work: Path) -> list[str]:
        """Pin the site's packages and their dependencies, in addition to the lock."""
        wanted = work / "extra.in"
        wanted.write_text("\n".join(self.extra_packages) + "\n")
        overrides = work / "overrides.txt"
        asked_for = {project(line) for line in self.extra_packages}
        kept = [line for line in self.overrides.splitlines() if project(line) not in asked_for]
        overrides.write_text("\n".join(kept) + "\n")
        arguments = ["--no-header", "--no-annotate", "--python", self.python]
        arguments += ["--constraint", str(lock), "--override", str(overrides), str(wanted)]
        try:
            pinned = self.run_uv(work, "pip", "compile", *arguments)
        except BuildError as error:
            packages = ", ".join(self.extra_packages)
            raise BuildError(f"the extra packages ({packages}) do not go with the locked ones: {error}") from error
        return [line for line in pinned.splitlines() if project(line)]

    def add_layer(self, work: Path, directory: Path, pinned: Iterable[str]) -> None:
        """Install what the lock does not have beside it, and make it found."""
        site_packages = self.site_packages(directory)
        present = {project(info.name.split("-")[0]) for info in site_packages.glob("*.dist-info")}
        missing = [line for line in pinned if project(line) not in present]
        if not missing:
            return
        listed = work / "extra.txt"
        listed.write_text("\n".join(missing) + "\n")
        layer = directory / LAYER
        self.install(work, directory, "--target", str(layer), "--requirement", str(listed))
        (site_packages / "campushub-layer.pth").write_text(f"{layer}\n")
        for part in ("bin", "etc", "share"):
            link_tree(layer / part, directory / part)

    def add_more(self, work: Path, directory: Path) -> None:
        """Run the program that puts more into a version, with the files that it reads beside it."""
        for name, text in self.completed_by.items():
            (work / name).write_text(text)
        program = next(iter(self.completed_by))
        (work / program).chmod(0o700)
        run_program([str(work / program), str(directory)], work, program)

    def finish(self, directory: Path) -> None:
        """Set up how the version finds people's own packages, and declare it complete."""
        if self.user_site:
            # Users' packages come with the distribution's in one switch. This is the documented list of where the
            # latter are looked for.
            isolate = self.site_packages(directory) / "campushub-site.pth"
            isolate.write_text("import site, sys; site.PREFIXES[:] = [sys.prefix]\n")
        for name, text in self.programs.items():
            program = directory / "bin" / name
            program.unlink(missing_ok=True)
            options = "-IS" if name in self.isolated_programs else "-s"
            program.write_text(f"#!{directory}/bin/python {options}\n{text}")
            program.chmod(0o755)
        for name, text in self.files.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            # It may be a link into the packages, or a layer.
            file.unlink(missing_ok=True)
            file.write_text(text)
        # uv leaves a file to lock by that everybody may write.
        (directory / ".lock").unlink(missing_ok=True)
        (directory / MARKER).write_text("\n".join(self.extra_packages) + "\n")

    @staticmethod
    def site_packages(directory: Path) -> Path:
        """Return the folder of a version's packages."""
        return next(directory.glob("lib/python*/site-packages"))

    def install(self, work: Path, directory: Path, *arguments: str) -> None:
        """Install into a version what is listed, which is all there is to install."""
        self.run_uv(work, "pip", "install", "--no-deps", "--python", str(directory), *arguments)

    def byte_compile(self, directory: Path) -> None:
        """Write the bytecode of a version, for root owns it, so nobody else could do it later."""
        places = [self.site_packages(directory), *filter(Path.exists, [directory / LAYER])]
        subprocess.run(["/bin/sh", "-c", COMPILE, directory, *places], check=False, capture_output=True)

    def run_uv(self, work: Path, *arguments: str) -> str:
        """Run uv with a cache that goes away, and return what it printed."""
        command = [self.uv, "--no-python-downloads", "--no-progress", "--color=never", f"--cache-dir={work / 'cache'}"]
        return run_program([*command, *arguments], work, f"uv {' '.join(arguments[:2])}")


def run_program(command: Sequence[str], work: Path, name: str) -> str:
    """
    Run a program of the build and return what it printed.

    Raises:
        BuildError: It failed; what it said last is in the text.
    """
    # A project that happens to lie in the current directory has no say, and nobody else can put anything where the
    # program keeps temporary files and what it has compiled.
    private = {"TMPDIR": str(work), "NODE_DISABLE_COMPILE_CACHE": "1"}
    environment = {**proxies(), **os.environ, **private}
    result = subprocess.run(command, check=False, cwd=work, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        raise BuildError(f"{name} failed:\n{last_lines(result.stderr or result.stdout)}")
    return result.stdout


def proxies() -> dict[str, str]:
    """Return the host's settings of proxies, which sudo keeps from its programs and uv has no file for."""
    try:
        text = Path("/etc/environment").read_text()
    except OSError:
        return {}
    setting = re.compile(r"^(\w+_proxy)=[\"']?([^\"'\n]*)", re.IGNORECASE | re.MULTILINE)
    return dict(setting.findall(text))


def link_tree(source: Path, target: Path) -> None:
    """Make the files of a tree found in another one, which keeps its own where both have one."""
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            link = place / name
            if not os.path.lexists(link):
                link.symlink_to(Path(folder) / name)


def remove(directory: Path) -> None:
    """Remove a version. Without its marker it counts as unfinished should this be cut off."""
    if directory.is_symlink():
        directory.unlink()
    elif directory.exists():
        (directory / MARKER).unlink(missing_ok=True)
        shutil.rmtree(directory)


def used_directories(directories: Sequence[Path]) -> set[Path]:
    """
    Return those of the directories that a running process uses.

    Programs of an environment have its interpreter in their command line, and whatever else runs in it
    has its compiled modules mapped.
    """
    wanted = {f"{directory}/".encode(): directory for directory in directories}
    used: set[Path] = set()
    for process in Path("/proc").glob("[0-9]*"):
        for source in ("cmdline", "maps"):
            try:
                content = (process / source).read_bytes()
            except OSError:  # it ended meanwhile
                continue
            used |= {directory for text, directory in wanted.items() if text in content}
    return used


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Wait for a run that was cut off and may still be at work on the host, then find what it built."""
    with file.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the environment into the state that is asked for."""
    environment = Environment(module.params)
    link = environment.link
    if link.exists() and not link.is_symlink():
        raise BuildError(f"{link} is no symbolic link; move it away")

    if module.params["state"] == "absent":
        existing = environment.versions()
        changed = bool(existing) or link.is_symlink()
        if not module.check_mode:
            link.unlink(missing_ok=True)
            environment.lock.unlink(missing_ok=True)
            for directory in existing:
                remove(directory)
        return {"changed": changed, "removed": [str(directory) for directory in existing]}

    entry = environment.cache_entry(module.params["cache_key"])
    previous = environment.current()
    if module.check_mode and not os.path.exists(environment.python):
        # An earlier task would have put it there.
        return {"changed": True, "built": True, "removed": [], "version": "", "directory": ""}
    key = environment.key()
    directory = environment.directory(key)
    result: dict[str, Any] = {
        "changed": previous != directory,
        "version": key,
        "directory": str(directory),
        "built": False,
        "removed": [],
        "diff": {"before": f"{previous.name if previous else '(none)'}\n", "after": f"{directory.name}\n"},
    }
    if module.check_mode:
        result["built"] = not environment.complete(directory)
        result["removed"] = [str(old) for old in environment.superfluous(directory, environment.keep)]
        result["changed"] |= result["built"] or bool(result["removed"])
        store(entry, environment, result)
        return result

    link.parent.mkdir(parents=True, exist_ok=True)
    with locked(environment.lock):
        if not environment.complete(directory):
            environment.build(directory)
            result["built"] = result["changed"] = True
        if environment.current() != directory:
            environment.switch(directory)
        result["removed"] = [str(old) for old in environment.prune(directory, environment.keep)]
    result["changed"] |= bool(result["removed"])
    store(entry, environment, result)
    return result


def store(entry: CacheEntry, environment: Environment, result: dict[str, Any]) -> None:
    """Remember what there is if it was right, and no version has still to go as soon as nothing runs from it."""
    if not result["changed"] and not environment.beyond(Path(result["directory"]), environment.keep):
        entry.store({name: result[name] for name in ("version", "directory", "built", "removed")})


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "requirements": {"type": "str"},
            "overrides": {"type": "str", "default": ""},
            "extra_packages": {"type": "list", "elements": "str", "default": []},
            "projects": {"type": "list", "elements": "path"},
            # They are no secret, and nothing for a log.
            "wheels": {"type": "dict", "default": {}, "no_log": True},
            "completed_by": {"type": "dict", "default": {}},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "user_site": {"type": "bool", "default": False},
            "programs": {"type": "dict", "default": {}},
            "isolated_programs": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "dict", "default": {}},
            "uv": {"type": "path", "default": "/opt/campushub/uv/bin/uv"},
            "keep": {"type": "int", "default": 1},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "cache_key": {"type": "str"},
        },
        required_if=[("state", "present", ["requirements"])],
        supports_check_mode=True,
    )
    os.umask(0o022)
    try:
        module.exit_json(**run(module))
    except BuildError as error:
        link = module.params["path"]
        kept = f"\n{link} still leads to {os.readlink(link)}." if os.path.islink(link) else ""
        module.fail_json(msg=f"{link} was not built: {error}{kept}")


if __name__ == "__main__":
    main()
