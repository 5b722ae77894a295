"""A site's own addition to the hub's configuration, read last."""

c.JupyterHub.template_vars["announcement"] = c.JupyterHub.template_vars["announcement"] + ", from nine"  # noqa: F821
