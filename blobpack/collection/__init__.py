"""Many blobs as one: the collection, making one, and opening its shards."""
