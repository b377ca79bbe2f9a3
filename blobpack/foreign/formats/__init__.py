"""The format of each program: recognising, reading and writing its index."""
