"""Programs beside hub and proxy. They run under the system's Python and import the standard library only."""
