"""Making a collection, the index of many blobs, so that they are read as one."""
