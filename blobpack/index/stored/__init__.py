"""Rows that an index reads when they are asked for: some rows of an index file, rows in a temporary file, rows that share names."""
