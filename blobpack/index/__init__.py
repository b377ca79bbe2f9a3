"""The index of a blob's members: rows, lookup by name, selection, and its forms as tables and files."""
