"""What CampusHub adds to JupyterHub: its configuration from data, its spawners and how people log in."""
