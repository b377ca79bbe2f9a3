"""All routes except those of payloads: the API, batches, the gallery, thumbnails, IIIF, whole files."""
