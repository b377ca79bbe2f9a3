"""The table of a blob's members: rows, lookup by name, selection, and its other forms."""
