"""Opening a blob or a collection, finding its index, joining the indexes of several blobs, and reading members by name or by row."""
