"""The index as stored inside a blob or in a file beside it: layout, writing, opening, lookups."""
