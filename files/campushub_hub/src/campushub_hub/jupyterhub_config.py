"""
Configuration file of JupyterHub. Do not edit: it comes from role `jupyterhub`.

A site's own additions go into /etc/jupyterhub/config.d/*.py, which are read last, in the order of their names. Those
that the inventory names (jupyterhub_config_files) are in the folder `inventory` there and are read among the others.
"""

import sys

from campushub_hub import configuration, maintenance

c = get_config()  # noqa: F821
settings = configuration.read_settings()
configuration.configure(c, settings)

additions = configuration.SITE_DIRECTORY / "config.d"
for addition in sorted([*additions.glob("*.py"), *additions.glob("inventory/*.py")], key=lambda path: path.name):
    # Not load_subconfig(): an addition can read, and extend, what is set already.
    exec(compile(addition.read_text(), str(addition), "exec"))  # noqa: S102 (only administrators can write it)

configuration.finish(c, settings)

# Administrators are let in all the same, and may have forgotten it.
if planned := maintenance.current():
    text = "There is maintenance from %s on: only administrators can start servers until ./campushub maintenance off."
    print(text % planned["when"], file=sys.stderr)
