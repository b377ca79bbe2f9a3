"""Opening a blob or a collection, finding its index, and reading members by name or by row."""
