"""What the server answers beside payloads: the API, batches, the gallery, thumbnails, IIIF, whole files."""
