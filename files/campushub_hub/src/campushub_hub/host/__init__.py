"""Programs that act as root or as a user. They run under the system's Python and import the standard library only."""
