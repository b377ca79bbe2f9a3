"""Reading members of a blob: open it, find its index, read one, many, all, or check them."""
