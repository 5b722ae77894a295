"""
What the service that forks kernels imports, and what each kernel does with it. Part of `campushub-prefork-kernels`.

Packages that notebooks begin with are imported, and then hidden: for a kernel they are not there until a cell imports
them. At that moment it is looked up where the cell would have them from, and what an import reads of the user's
surroundings is read. So a cell that sets a variable before it imports NumPy, or a `matplotlibrc` beside the notebook,
has the effect that it has in a kernel that starts by itself.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import importlib
import importlib.machinery
import os
import re
import runpy
import site
import sys
import threading
import types
import warnings
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

# What a kernel has imported when it runs its first cell, besides what these import.
KERNEL = """
ipykernel.kernelapp IPython.core.completerlib IPython.core.debugger IPython.core.logger IPython.core.oinspect
IPython.extensions.storemagic IPython.utils.wildcard code faulthandler ipykernel.debugger resource sqlite3 tornado.gen
tornado.locks tornado.platform.asyncio tornado.queues traitlets.config.argcomplete_config
""".split()  # noqa: SIM905
# How a kernel that starts by itself is started.
OPTIONS = ("-m", "ipykernel_launcher")
# Of packages: what comes with them.
COMPANIONS = {"matplotlib": "mpl_toolkits"}
# Libraries read these as they are loaded; of the first it is looked up again.
THREADS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
READ_BY_LIBRARIES = ("NPY_", "NUMPY_", "OPENBLAS_", "GOTO_", "OMP_", "GOMP_", "KMP_", "MKL_", "BLIS_")
WARNING = (
    "This kernel has loaded {} for another package than the one that it imports now. If they do not go together, have "
    "a kernel that loads nothing before: python -m ipykernel install --user"
)
# What these modules read of the environment makes no difference, or is read again.
HARMLESS = re.compile(r"ipykernel\.kernelapp|IPython\.utils\.terminal|matplotlib(\..*)?")


def preset(variables: Iterable[str]) -> list[str]:
    """Return the variables that a library has read when it was loaded, and that nothing looks up again."""
    return [name for name in variables if name.startswith(READ_BY_LIBRARIES) and name not in THREADS]


class Frontend:
    """A stand-in for the shell of a kernel (ZMQ), while what asks for one is imported: pandas shows more without."""

    kernel = None


class NoPoller:
    """A stand-in for what ends a kernel whose parent has ended. The parent of a fork is the service."""

    def __init__(self, parent_pid: int) -> None:
        """Watch nothing."""

    def start(self) -> None:
        """Do not start to."""


class Missing:
    """Notes which modules were looked for and are not there."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        """Note a name; the last of all finders. What a package has in it is for nobody else to have."""
        del path, target
        if "." not in name:
            self.names.add(name)


class Libraries:
    """Packages that are imported, and hidden until somebody imports them. Finds them for Python then."""

    def __init__(self) -> None:
        self.stages: dict[str, int] = {}  # by the name of a package: what comes earlier, the package may need
        self.hidden: dict[str, types.ModuleType] = {}
        self.others: set[str] = set()  # packages and modules that they have brought along, which are not hidden
        self.libraries: set[str] = set()  # of a package that is imported again: what no process loads twice
        self.missing = Missing()
        self.filters: list[Any] = []  # of warnings
        self.lock = threading.RLock()

    def load(self, names: Sequence[str]) -> None:
        """Import packages."""
        before, filters = set(sys.modules), list(warnings.filters)
        vars(builtins)["get_ipython"] = lambda: Frontend()  # noqa: PLW0108 (what it returns is looked at by its type)
        # Threads would not survive a fork. How many there shall be is said again in each kernel.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        for stage, name in enumerate(names):
            package = name.partition(".")[0]
            for top in (package, COMPANIONS.get(package, package)):
                self.stages.setdefault(top, stage)
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                pass
            except Exception as error:  # noqa: BLE001 (whatever it is, other packages are there)
                print(f"{name} cannot be imported: {error}", file=sys.stderr, flush=True)
        del os.environ["OPENBLAS_NUM_THREADS"], vars(builtins)["get_ipython"]
        # Matplotlib makes a list of fonts, with one that speaks up when it takes long.
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(2)
        for module in set(sys.modules) - before:
            top = module.partition(".")[0]
            if top in self.stages:
                self.hidden[module] = sys.modules.pop(module)
            elif top not in sys.builtin_module_names:
                self.others.add(top)
        self.filters = [item for item in warnings.filters if item not in filters]
        vars(warnings)["filters"][:] = filters
        if "matplotlib.font_manager" in self.hidden:
            forget_fonts(self.hidden["matplotlib.font_manager"])

    # In a kernel

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Find a package that is hidden, if an import would have it from where it was imported."""
        del target
        with self.lock:
            module = self.hidden.get(name)
            if module is None or module.__spec__ is None:
                return None
            found = PathFinder.find_spec(name, path)
            # By a link it may be the same.
            if found is None or os.path.realpath(str(found.origin)) != os.path.realpath(str(module.__spec__.origin)):
                self.forget(self.stage(name))
                return None
            found.loader = Finder(self, module, found.loader)  # type: ignore[assignment]  # as much as an import needs
            return found

    def forget(self, stage: int) -> None:
        """Have what was imported then and later imported again. What is loaded with it is not loaded twice, though."""
        forgotten = [name for name in self.hidden if self.stage(name) >= stage]
        later = sorted({name.partition(".")[0] for name in forgotten if self.stage(name) > stage})
        for name in forgotten:
            del self.hidden[name]
        if later:
            warnings.warn(WARNING.format(", ".join(later)), RuntimeWarning, stacklevel=2)

    def show(self, name: str) -> bool:
        """Make a package known to Python with what it needs, as an import does; return whether it is there then."""
        with self.lock:
            if name in self.libraries:
                self.hidden.pop(name, None)
                return True
            if name not in self.hidden:
                # By another thread.
                return name in sys.modules
            stage = self.stage(name)
            shown = {other: module for other, module in self.hidden.items() if self.stage(other) <= stage}
            if "matplotlib" in shown and not find_own_places(shown):
                # The user has settings of their own: the import takes place, with what cannot be loaded twice.
                for other in [other for other in shown if other.partition(".")[0] in ("matplotlib", "mpl_toolkits")]:
                    if is_extension(shown[other]):
                        self.libraries.add(other)
                    else:
                        del self.hidden[other]
                    del shown[other]
            self.reveal(shown)
            return name in shown

    def reveal(self, shown: dict[str, types.ModuleType]) -> None:
        """Put modules where Python looks for those that are imported."""
        while self.filters:
            action, message, category, place, line = self.filters.pop()
            texts = (message.pattern if message else "", place.pattern if place else "")
            warnings.filterwarnings(action, texts[0], category, texts[1], line)
        for name, module in shown.items():
            del self.hidden[name]
            sys.modules.setdefault(name, module)
        if "numpy" in shown:
            settle_numpy(shown["numpy"])
        if "matplotlib" in shown and os.environ.get("MPLBACKEND"):
            vars(shown["matplotlib"])["rcParams"]["backend"] = os.environ["MPLBACKEND"]

    def stage(self, name: str) -> int:
        """Return when a module was imported."""
        return self.stages[name.partition(".")[0]]


class Finder:
    """Takes a module that is hidden for the result of an import, or imports it."""

    def __init__(self, libraries: Libraries, module: types.ModuleType, loader: Any) -> None:
        self.libraries, self.module, self.spec, self.loader = libraries, module, module.__spec__, loader

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        """Return the module."""
        if self.libraries.show(spec.name):
            return self.module
        spec.loader = self.loader
        # A folder that is no package by itself has none.
        made: types.ModuleType | None = self.loader.create_module(spec) if self.loader else None
        return made

    def exec_module(self, module: types.ModuleType) -> None:
        """Have it as its own import has left it."""
        module.__spec__ = self.spec


def is_extension(module: types.ModuleType) -> bool:
    """Return whether a module is a library, which a process loads once."""
    return bool(module.__spec__ and isinstance(module.__spec__.loader, importlib.machinery.ExtensionFileLoader))


def settle_numpy(numpy: Any) -> None:
    """Give NumPy randomness of its own, and as many threads as it would have by itself."""
    numpy.random.set_bit_generator(numpy.random.MT19937())
    late = preset(os.environ)
    if late:
        warnings.warn(f"{late[0]} has no effect: NumPy was loaded before it was set", RuntimeWarning, stacklevel=2)
    processors = len(os.sched_getaffinity(0))
    wanted = next((number for name in THREADS if (number := first_number(os.environ.get(name, ""))) > 0), processors)
    for library in blas_libraries():
        for prefix, suffix in (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", "")):
            function = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
            if function:
                function(min(wanted, processors))
                break


def first_number(text: str) -> int:
    """Return the number that C finds at the beginning of a text."""
    found = re.match(r"\s*[+-]?\d+", text)
    return int(found[0]) if found else 0


def blas_libraries() -> list[ctypes.CDLL]:
    """Return the libraries for linear algebra that are loaded."""
    paths = set(re.findall(r"(?m) (/\S*openblas\S*)$", Path("/proc/self/maps").read_text(errors="replace")))
    return [ctypes.CDLL(path) for path in sorted(paths)]


def forget_fonts(manager: types.ModuleType) -> None:
    """Have the fonts of a user listed when they are used: the service does not know those in a home."""
    space = vars(manager)
    fonts, kind = space["fontManager"], space["FontManager"]

    def listed(self: Any, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        own = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share", "fonts")
        space["X11FontDirectories"][-2:] = [str(own), str(Path.home() / ".fonts")]
        self.__class__ = kind
        vars(self).update(vars(space["_load_fontmanager"]()))
        return getattr(self, name)

    vars(fonts).clear()
    fonts.__class__ = type(kind.__name__, (kind,), {"__getattr__": listed, "__module__": kind.__module__})


def find_own_places(modules: dict[str, types.ModuleType]) -> bool:
    """Have Matplotlib find its directories again. Return whether it has no settings of the user there."""
    matplotlib: Any = modules["matplotlib"]
    for name in ("get_configdir", "get_cachedir"):
        function = getattr(matplotlib, name)
        cells = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))
        cells["called"].cell_contents = False
    configuration = matplotlib.get_configdir()
    if "matplotlib.style" in modules:
        vars(modules["matplotlib.style"])["USER_LIBRARY_PATHS"][:] = [os.path.join(configuration, "stylelib")]
    if "matplotlib.texmanager" in modules:
        vars(modules["matplotlib.texmanager"])["TexManager"]._cache_dir = Path(matplotlib.get_cachedir(), "tex.cache")  # noqa: SLF001
    own = matplotlib.matplotlib_fname() != os.path.join(matplotlib.get_data_path(), "matplotlibrc")
    return not own and not os.path.exists(os.path.join(configuration, "stylelib"))


LIBRARIES = Libraries()


def load(names: Sequence[str]) -> None:
    """Import what kernels need, and packages."""
    # By the name that the output of a kernel has.
    sys.stdout.reconfigure(encoding="UTF-8")  # type: ignore[union-attr]  # as it is in a program
    sys.meta_path.append(LIBRARIES.missing)
    # As ipython_kernel_config.py does: its port would have no password.
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # so Python has it
    for name in KERNEL:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    del sys.modules["debugpy"]
    # Matplotlib wants a directory; nothing in it is read.
    os.environ["MPLCONFIGDIR"] = os.path.join(os.path.dirname(sys.argv[1]), "matplotlib")
    LIBRARIES.load(names)
    sys.meta_path.remove(LIBRARIES.missing)
    del os.environ["MPLCONFIGDIR"]
    vars(site)["ENABLE_USER_SITE"] = True


def own_code(directory: str) -> str:
    """Return what runs in a Python as it starts, because its user has it among their packages."""
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        if name.endswith(".pth") and re.search(r"(?m)^import[ \t]", Path(directory, name).read_text(errors="replace")):
            return os.path.join(directory, name)
    return ""


def has(name: str, places: list[str]) -> bool:
    """Return whether a module could be imported from there. A folder that is no package comes after all that are."""
    found = PathFinder.find_spec(name, places)
    return bool(found and found.loader)


def check(variables: dict[str, str], refused: type[Exception]) -> None:
    """Raise that if a kernel that starts by itself would be another one; runs as its user, in its directory."""
    for name in preset(variables):
        raise refused(f"{name} is set")
    if code := own_code(str(site.USER_SITE)):
        raise refused(f"{code} has code")
    # The packages of the environment come first, and then those of the user.
    before = list(sys.path)
    site.addusersitepackages({os.path.abspath(place) for place in before})
    places = [place for place in sys.path if place not in before]
    for name in ("sitecustomize", "usercustomize"):
        if has(name, places):
            raise refused(f"{name} is among the user's packages")
    sys.path[0] = os.getcwd()
    for name in sorted(LIBRARIES.missing.names):
        if has(name, [sys.path[0], *places]):
            raise refused(f"{name} is among the user's modules")
    for name in sorted(LIBRARIES.others):
        if has(name, sys.path[:1]):
            raise refused(f"{name} is in the kernel's directory")


def run(arguments: Sequence[str]) -> None:
    """Run a kernel as if it had started by itself."""
    position = next(i for i, finder in enumerate(sys.meta_path) if finder is PathFinder)
    sys.meta_path.insert(position, LIBRARIES)
    # These read at their import who has started it, and in what terminal. That one's end is the client's to notice.
    for name in ("IPython.utils.terminal", "ipykernel.kernelapp"):
        importlib.reload(sys.modules[name])
    vars(sys.modules["ipykernel.kernelapp"])["ParentPollerUnix"] = NoPoller
    sys.argv = ["-m", *arguments]
    sys.orig_argv[:] = [sys.executable, *OPTIONS, *arguments]
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)


if __name__ == "campushub_prefork":
    load(sys.argv[2:])
