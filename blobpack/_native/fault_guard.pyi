"""The stub of _native/fault_guard.pyx."""

GUARD: object  # a capsule that other native modules open
