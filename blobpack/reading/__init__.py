"""Reading whole members: as images, as files, or to compare them with the index."""
