# Managed by CampusHub
"""Parts of users' servers that CampusHub has in the place of Jupyter's; /etc/jupyter/jupyter_config.py names them."""
