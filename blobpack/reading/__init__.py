"""Reading: open a blob, find its index, read one member, many or all, and check a blob against its index."""
