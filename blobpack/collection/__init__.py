"""Collections: many blobs that are read as one. Make a collection, open it, and open its blobs."""
