"""
Configuration file of JupyterHub. Do not edit: it comes from role `jupyterhub`.

A site's own additions go into /etc/jupyterhub/config.d/*.py, which are read last, in the order of their names.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from campushub_hub.configuration import SITE_DIRECTORY, configure, read_settings

c = get_config()  # noqa: F821
configure(c, read_settings())

for addition in sorted((SITE_DIRECTORY / "config.d").glob("*.py")):
    # Not load_subconfig(): an addition shall see, and be able to extend, what is set already.
    exec(compile(addition.read_text(), str(addition), "exec"))  # noqa: S102 (it is the administrator's)
