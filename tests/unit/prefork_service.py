"""The service that forks servers of users, with an environment of links, for tests of it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.settings.validation import ROOT
from tests.unit.user_server import until

FILES = ROOT / "roles/jupyter/files"


def make_environment(directory: Path, program: str, python: str, packages: Path | None = None, wait: int = 30) -> Path:
    """Make an environment as the role does, with a program in the place of the server."""
    version = subprocess.run([python, "-V"], check=True, capture_output=True, text=True).stdout.split()[1]
    library = directory / "lib" / f"python{version.rpartition('.')[0]}"
    for folder in (directory / "bin", library, directory / "run"):
        folder.mkdir(parents=True)
    (directory / "pyvenv.cfg").write_text(f"home = {Path(python).parent}\nversion = {version}\n")
    (directory / "bin/python").symlink_to(python)
    if packages:
        (library / "site-packages").symlink_to(packages)
        for part in ("etc", "share"):
            (directory / part).symlink_to(packages.parents[2] / part)
    # Programs that test the client find it by this name.
    client = (FILES / "prefork_client.py").read_text().replace("/run/campushub-prefork/user.sock", f"{directory}/run/s")
    client = client.replace("/run/campushub-prefork-kernels/user.sock", f"{directory}/run/k")
    client = client.replace("ANSWER, READY = 3, 8", f"ANSWER, READY = {wait}, {wait}")
    texts = {
        "campushub-prefork": ("-s", (FILES / "prefork.py").read_text()),
        "jupyterhub-singleuser-alone": ("-s", program),
        "jupyterhub-singleuser": ("-IS", client),
        "campushub-prefork-kernels": ("-s", (FILES / "prefork.py").read_text()),
        "campushub-kernel-forked": ("-s", (FILES / "prefork_kernel.py").read_text()),
        "campushub-kernel": ("-IS", client),
    }
    for name, (options, text) in texts.items():
        path = directory / "bin" / name
        path.write_text(f"#!{directory}/bin/python {options}\n{text}")
        path.chmod(0o755)
    return directory


class PreforkService:
    """The service of an environment."""

    def __init__(self, environment: Path, packages: Sequence[str] = (), **options: Any) -> None:
        """Start it; the one that forks kernels if packages are named."""
        name = "campushub-prefork-kernels" if packages else "campushub-prefork"
        self.path = environment / "run" / ("k" if packages else "s")
        self.path.unlink(missing_ok=True)
        command = [str(environment / "bin" / name), str(self.path), *packages]
        self.process = subprocess.Popen(command, env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, cwd="/", **options)
        until(lambda: self.path.is_socket() or self.process.poll() is not None, "a service", 60)

    def status(self, name: str) -> int:
        """Return a number of /proc/PID/status."""
        found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def memory(self) -> float:
        """Return the megabytes that it has in memory."""
        return self.status("VmRSS") / 1000

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """Return how many descriptors it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
