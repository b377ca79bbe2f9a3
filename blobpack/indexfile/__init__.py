"""The index as stored in a blob or beside it: its layout, writing it, and opening it."""
