"""What CampusHub adds to JupyterHub: its configuration from data, its spawners and its authenticators."""
