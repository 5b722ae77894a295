"""A site's own addition to the hub's configuration, read last."""

c = get_config()  # type: ignore[name-defined]  # noqa: F821
c.JupyterHub.template_vars["announcement"] += ", from nine"
