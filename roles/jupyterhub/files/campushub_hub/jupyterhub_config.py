"""
Configuration file of JupyterHub. Do not edit: it comes from role `jupyterhub`.

A site's own additions go into /etc/jupyterhub/config.d/*.py, which are read last, in the order of their names. Those
that the inventory names (jupyterhub_config_files) are in the folder `inventory` there and are read among the others.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from campushub_hub.configuration import SITE_DIRECTORY, configure, read_settings

c = get_config()  # noqa: F821
configure(c, read_settings())

additions = SITE_DIRECTORY / "config.d"
for addition in sorted([*additions.glob("*.py"), *additions.glob("inventory/*.py")], key=lambda path: path.name):
    # Not load_subconfig(): an addition shall see, and be able to extend, what is set already.
    exec(compile(addition.read_text(), str(addition), "exec"))  # noqa: S102 (it is the administrator's)
