"""
How people log in.

The authenticators for LDAP and OpenID Connect are imported from their modules: a hub imports only the one that it uses.
"""
