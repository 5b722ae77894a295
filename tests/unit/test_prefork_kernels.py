"""Kernels that are forked, with a real ipykernel and jupyter_client, beside kernels that start by themselves."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

from tests.unit.prefork_service import FILES, PreforkService, make_environment
from tests.unit.user_server import until

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not Path(f"/usr/bin/{VERSION}").exists(), reason="takes root, and that Python in /usr/bin"
)
# Below those of the tests of servers; nobody has more than a few starts in a row.
USERS = iter(range(60400, 60600))
# A stand-in for NumPy: says when it was imported, by whom, and asks for a module that may be there.
LIBRARY = """
import os, random
import library_part
IMPORTED_BY, PLACE = os.getpid(), os.getcwd()
try:
    import faster
except ImportError:
    faster = None
"""
PACKAGES = ["library", "dependent", "not_there"]
# What a kernel is, as far as it could differ.
ABOUT = """
import gc, json, locale, os, signal, site, subprocess, sys, warnings
print(json.dumps({
    "arguments": sys.argv, "line": sys.orig_argv, "path": sys.path, "flags": str(sys.flags), "program": sys.executable,
    "variables": dict(os.environ), "directory": os.getcwd(), "site": [site.ENABLE_USER_SITE, site.USER_BASE],
    "signals": [str(signal.getsignal(n)).split(" at ")[0] for n in range(1, 32)], "filters": str(warnings.filters),
    "flags for children": subprocess._args_from_interpreter_flags(), "group": os.getpgid(0) - os.getpid(),
    "session": os.getsid(0) - os.getpid(), "locale": locale.setlocale(locale.LC_ALL), "umask": os.umask(0o27),
    "command": open("/proc/self/cmdline").read().rstrip("\\0").split("\\0"), "name": open("/proc/self/comm").read(),
    "main": sorted(name for name in vars(sys.modules["__main__"]) if not name.startswith("_i")),
    "packages": sorted(name for name in sys.modules if name.startswith(("library.", "IPython.", "ipykernel.", "zmq."))),
    "files": open("/proc/self/limits").read(), "collector": gc.get_threshold(), "hook": str(type(sys.displayhook)),
}))
"""


def copy_package(name: str, target: Path, done: set[str]) -> None:
    """Copy a package with what it needs to where users get to."""
    done.add(name)
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    for file in package.files or []:
        if ".." not in file.parts and file.suffix != ".pyc":
            place = target / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(package.locate_file(file)), place)
    for requirement in package.requires or []:
        found = re.match(r"[\w.-]+", requirement)
        if found and "extra ==" not in requirement and found[0] not in done:
            copy_package(found[0], target, done)


TERMINAL = "from IPython.utils import terminal; print(terminal._set_term_title.__name__)"


@pytest.fixture(scope="module")
def environment() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="prefork-kernels-") as name:
        Path(name).chmod(0o755)
        made = make_environment(Path(name) / "env", "", f"/usr/bin/{VERSION}")
        # As the role has it: its user's packages come after those of the environment, and the distribution's never.
        with (made / "pyvenv.cfg").open("a") as settings:
            settings.write("include-system-site-packages = true\n")
        packages = next(made.glob("lib/python*")) / "site-packages"
        packages.mkdir()
        copy_package("ipykernel", packages, set())
        (packages / "campushub-site.pth").write_text("import site, sys; site.PREFIXES[:] = [sys.prefix]\n")
        (packages / "library").mkdir()
        (packages / "library/__init__.py").write_text(LIBRARY)
        (packages / "library/more.py").write_text("")
        (packages / "library_part.py").write_text("")
        (packages / "dependent.py").write_text("import library")
        yield made


@pytest.fixture(scope="module")
def running(environment: Path) -> Iterator[list[PreforkService]]:
    services = [PreforkService(environment, PACKAGES)]
    yield services
    services[0].stop()


@pytest.fixture
def service(running: list[PreforkService], environment: Path) -> PreforkService:
    """A service that the last test may have stopped."""
    if running[0].process.poll() is not None:
        running[0] = PreforkService(environment, PACKAGES)
    return running[0]


class Kernel:
    """A kernel of a user of its own, forked if it can be."""

    def __init__(self, environment: Path, home: Path, alone: bool = False, **options: Any) -> None:
        self.user = options.pop("user", None) or next(USERS)
        home.chmod(0o755)
        os.chown(home, self.user, self.user)
        name = home / uuid.uuid4().hex[:8]
        self.log = home / "log"
        program = str(environment / "bin/campushub-kernel")
        command = [str(environment / "bin/python"), "-m", "ipykernel_launcher"] if alone else [program]
        self.manager = KernelManager(transport="ipc", ip=str(name), connection_file=f"{name}.json")
        self.manager._kernel_spec = KernelSpec(argv=[*command, "-f", "{connection_file}"], language="python")  # noqa: SLF001
        self.manager.write_connection_file()
        os.chown(f"{name}.json", self.user, self.user)
        variables = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8", **options.pop("variables", {})}
        settings: dict[str, Any] = {"cwd": str(home), "user": self.user, "group": self.user, "extra_groups": []}
        self.settings = {**settings, "env": variables, "stderr": self.log.open("a"), **options}
        self.manager.start_kernel(**self.settings)
        self.client = self.connect()
        self.pid = int(self.run("import os; print(os.getpid())"))

    def connect(self) -> BlockingKernelClient:
        """Wait until it answers."""
        client: BlockingKernelClient = self.manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return client

    def run(self, code: str) -> str:
        """Run a cell; return what it prints, or its error."""
        printed: list[str] = []

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                printed.append(content["text"])
            elif message["msg_type"] == "error":
                printed.append(content["ename"])

        self.client.execute_interactive(code, output_hook=take, timeout=60)
        return "".join(printed).strip()

    def is_forked(self) -> bool:
        """Return whether it is a fork."""
        return self.pid != self.client_pid()

    def client_pid(self) -> int:
        """Return the process that its server has started."""
        return int(self.manager.provisioner.process.pid)  # type: ignore[union-attr]

    def interrupt(self, code: str) -> str:
        """Interrupt a cell; return what it was."""
        self.client.execute(code)
        time.sleep(0.5)
        self.manager.interrupt_kernel()
        content = self.client.get_shell_msg(timeout=10)["content"]
        return str(content.get("ename", content["status"]))

    def restart(self, now: bool = False) -> None:
        """Restart it."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=now)
        self.client = self.connect()
        self.pid = int(self.run("import os; print(os.getpid())"))

    def end(self) -> None:
        """End it."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.settings["stderr"].close()


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="home-") as name:
        yield Path(name)


@pytest.fixture
def start(environment: Path, home: Path) -> Iterator[Any]:
    kernels: list[Kernel] = []

    def started(alone: bool = False, **options: Any) -> Kernel:
        kernels.append(Kernel(environment, home, alone, **options))
        return kernels[-1]

    yield started
    for kernel in kernels:
        kernel.end()


def alive(pid: int) -> bool:
    """Return whether a process has not ended."""
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def test_description_of_the_kernel_is_that_of_ipykernel() -> None:
    ours, theirs = json.loads((FILES / "kernel.json").read_text()), get_kernel_dict()
    assert ours.pop("argv")[1:] == theirs.pop("argv")[3:]
    assert ours == theirs


@pytest.mark.usefixtures("service")
def test_a_forked_kernel_is_what_it_is_by_itself(start: Any) -> None:
    forked = start(variables={"TERM": "xterm"})
    plain = start(alone=True, user=forked.user, variables={"TERM": "xterm"})
    assert (forked.is_forked(), plain.is_forked()) == (True, False)
    answers = []
    for kernel in (forked, plain):
        printed = kernel.run(ABOUT).replace(Path(kernel.manager.connection_file).name, "FILE")
        answers.append(json.loads(printed) | {"terminal": kernel.run(TERMINAL)})
    assert answers[0] == answers[1]
    assert forked.log.read_text() == ""


@pytest.mark.usefixtures("service")
def test_interrupts_reach_a_cell_and_what_it_has_started(start: Any) -> None:
    kernel = start()
    for code in (
        "while True: pass",
        "import time; time.sleep(60)",
        "import subprocess; subprocess.run(['sleep', '60'])",
    ):
        assert kernel.interrupt(code) == "KeyboardInterrupt", code
    assert subprocess.run(["pgrep", "-u", str(kernel.user), "sleep"], check=False).returncode == 1
    assert kernel.run("print(1 + 1)") == "2"


@pytest.mark.usefixtures("service")
def test_restarts_leave_no_process_behind(start: Any) -> None:
    kernel = start()
    child = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"
    for now in (False, True):
        old = kernel.pid, int(kernel.run(child))
        kernel.restart(now)
        until(lambda old=old: not any(map(alive, old)), "the end of the old kernel")  # type: ignore[misc]
        assert kernel.is_forked()


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("code", "status"), [("os._exit(5)", 5), ("os.kill(os.getpid(), 9)", -9), ("os.abort()", -6)])
def test_a_crash_is_told_as_one(start: Any, code: str, status: int) -> None:
    kernel = start()
    kernel.run("import os")
    kernel.client.execute(code)
    until(lambda: not kernel.manager.is_alive(), "the end of the kernel")
    assert kernel.manager.provisioner.process.returncode == status


def test_a_kernel_outlives_the_service_and_not_its_client(service: PreforkService, start: Any) -> None:
    kernel = start()
    service.stop()
    child = int(kernel.run("import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"))
    # It lets no thread of Python's have a turn.
    kernel.client.execute("import re; re.match('(a*)*b', 'a' * 60)")
    time.sleep(0.3)
    assert alive(kernel.pid)
    os.kill(kernel.client_pid(), signal.SIGKILL)
    until(lambda: not alive(kernel.pid) and not alive(child), "the end of the kernel")


@pytest.mark.usefixtures("service")
def test_a_kernel_ends_with_its_server(environment: Path, start: Any) -> None:
    """Also one that is busy, and whatever has ended the server."""
    first = start()
    server = f"""
import json, os, subprocess, sys
variables = json.loads(sys.argv[1])
variables["JPY_PARENT_PID"] = str(os.getpid())
command = [{str(environment / "bin/campushub-kernel")!r}, "-f", {str(first.log.parent / "other.json")!r}]
print(subprocess.Popen(command, env=variables, start_new_session=True, stdin=0, stdout=2, stderr=2).pid, flush=True)
sys.stdin.read()
"""
    settings = {name: first.settings[name] for name in ("user", "group", "extra_groups", "cwd")}
    process = subprocess.Popen(
        [f"/usr/bin/{VERSION}", "-c", server, json.dumps(first.settings["env"])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=first.settings["stderr"],
        text=True,
        **settings,
    )
    assert process.stdout
    client = int(process.stdout.readline())
    look = ["pgrep", "-u", str(first.user), "-f", "ipykernel_launcher.*other.json"]
    until(lambda: subprocess.run(look, check=False, capture_output=True).stdout, "a kernel")
    kernel = int(subprocess.check_output(look))
    assert kernel != client
    process.kill()
    process.communicate()
    until(lambda: not alive(kernel) and not alive(client), "the end of the kernel")


@pytest.mark.usefixtures("service")
def test_packages_are_there_when_they_are_imported(start: Any) -> None:
    kernel = start()
    assert kernel.run("import sys; print('library' in sys.modules)") == "False"
    look = "import library.more; print(library.IMPORTED_BY == os.getpid(), 'library.more' in sys.modules)"
    assert kernel.run(f"import os; {look}") == "False True"
    assert kernel.run("import importlib.util as u; print(u.find_spec('library').loader.__class__.__name__)") == (
        "SourceFileLoader"
    )
    assert (
        kernel.run("import importlib; importlib.reload(library); print(library.IMPORTED_BY == os.getpid())") == "True"
    )


@pytest.mark.usefixtures("service")
def test_a_cell_that_prefers_another_package_gets_it(start: Any) -> None:
    kernel = start()
    kernel.run("import os, sys; os.mkdir('mine'); open('mine/library.py', 'w').write('MINE = 1')")
    said = kernel.run("sys.path.insert(0, 'mine'); import library; print(library.MINE)")
    assert "This kernel has loaded dependent for another package" in said
    assert kernel.run("import dependent; print(dependent.library.MINE)") == "1"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("{site}/faster.py", "", "faster is among the user's modules"),
        ("faster.py", "", "faster is among the user's modules"),
        ("library_part.py", "", "library_part is in the kernel's directory"),
        ("{site}/usercustomize.py", "", "usercustomize is among the user's packages"),
        ("{site}/x.pth", "import os\n", "x.pth has code"),
        ("{site}/library.py", "", ""),
        ("{site}/other.py", "", ""),
        ("{site}/x.pth", "/tmp\n", ""),
        ("library_part/data.txt", "", ""),
    ],
)
@pytest.mark.usefixtures("service")
def test_packages_of_the_user_count_as_by_itself(home: Path, start: Any, name: str, text: str, reason: str) -> None:
    place = home / name.format(site=f".local/lib/{VERSION}/site-packages")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    kernel = start()
    assert kernel.is_forked() == (not reason)
    said = kernel.log.read_text()
    assert said == "" if not reason else reason in said
    plain = start(alone=True, user=kernel.user)
    look = "import sys, library; print(sys.path, library.__file__, library.faster)"
    assert kernel.run(look) == plain.run(look)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("variable", ["PYTHONPATH", "PYTHONNOUSERSITE", "OPENBLAS_CORETYPE", "LD_LIBRARY_PATH"])
def test_variables_that_decide_at_an_import_prevent_a_fork(start: Any, variable: str) -> None:
    kernel = start(variables={variable: "1"})
    assert not kernel.is_forked()
    assert kernel.log.read_text() == f"No fork: {variable} is set. The kernel starts by itself.\n"


def test_without_the_service_kernels_start_by_themselves(service: PreforkService, start: Any) -> None:
    service.stop()
    kernel = start()
    assert not kernel.is_forked()
    assert kernel.run("print(1 + 1)") == "2"
    assert kernel.log.read_text().startswith("No fork: ")


def test_kernels_differ_in_randomness_and_have_nothing_open(service: PreforkService, start: Any, home: Path) -> None:
    look = """
import os, random, multiprocessing.process as m
places = [os.readlink(f'/proc/self/fd/{n}') for n in range(3, 200) if os.path.exists(f'/proc/self/fd/{n}')]
key = get_ipython().kernel.parent.flags["secure"][0]["Session"]["key"].decode()
print(random.random(), m.current_process().authkey.hex(), key, m.ORIGINAL_DIR, len([p for p in places if '/run/' in p]))
"""
    one, other = [kernel.run(look).split() for kernel in (start(), start())]
    assert not set(one[:3]) & set(other[:3])
    assert one[3:] == other[3:] == [str(home), "0"]
    # Nor has the service anything of them, or of IPython's.
    until(lambda: service.descriptors() <= 11, "few descriptors")
