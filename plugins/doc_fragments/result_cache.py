"""What the documentation of modules with a cached result has in common."""

from __future__ import annotations


class ModuleDocFragment:
    """An option that an action plugin sets."""

    DOCUMENTATION = r"""
options:
  cache_key:
    description:
      - The key under which the host keeps the result while there is nothing to change. The action plugin sets it.
      - C(base_result_cache=false) turns the cache off. C(plugins/module_utils/result_cache.py) says how it works.
    type: str
"""
