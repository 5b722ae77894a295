"""Stands for setuptools while pip downloads."""
