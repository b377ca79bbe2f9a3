"""Files for Encord: their kinds of items, limits, URLs and forms; reading and checking such files."""
