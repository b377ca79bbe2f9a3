"""Compiled modules, from `_native/`, and their type stubs."""
