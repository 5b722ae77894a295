"""A cell that tells what a kernel is, and what its packages have found out as they were imported."""

# ruff: noqa: E402, S311, SLF001  # what is there before packages are imported comes first

import ctypes
import json
import os
import random
import site
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

hidden = {name: name in sys.modules for name in ("numpy", "pandas", "matplotlib")}

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib import pyplot as plt
from pandas._config import config


def options(levels: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return settings of pandas."""
    for name, value in levels.items():
        if isinstance(value, dict):
            yield from options(value, f"{prefix}{name}.")
        else:
            yield prefix + name, str(value)


matrix = np.random.default_rng(1).random((600, 600))
libraries = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "openblas" in line]
print(
    json.dumps(
        {
            "hidden": hidden,
            "arguments": sys.argv[:2],
            "line": sys.orig_argv[:4],
            "path": sys.path,
            "flags": [str(sys.flags), *vars(subprocess)["_args_from_interpreter_flags"]()],
            "site": [site.ENABLE_USER_SITE, site.USER_BASE],
            "warnings": [str(item) for item in warnings.filters],
            "variables": {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"},
            "rc": {name: str(value) for name, value in mpl.rcParams.items()},
            "pandas": dict(options(config._global_config)),
            "numpy": [str(np.get_printoptions()), str(np.geterr())],
            "places": [mpl.get_configdir(), mpl.get_cachedir(), mpl.matplotlib_fname(), *mpl.style.USER_LIBRARY_PATHS],
            "styles": plt.style.available,
            "fonts": [len(font_manager.fontManager.ttflist), font_manager.findfont("DejaVu Sans")],
            "kind of fonts": str(type(font_manager.fontManager)),
            "threads": ctypes.CDLL(libraries[0]).scipy_openblas_get_num_threads64_(),
            "product": float((matrix @ matrix).sum()),
            "random": [random.random() < 1, np.random.random() < 1],
            "specification": [str(np.__spec__.origin), type(np.__spec__.loader).__name__, pd.__name__],
            "group": [os.getpgid(0) - os.getpid(), os.getsid(0) - os.getpid()],
        }
    )
)
