"""Writing one blob: a new file with its index, compression, and what may be replaced."""
