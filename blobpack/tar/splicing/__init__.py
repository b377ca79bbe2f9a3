"""Copying members of one blob into another, with their headers."""
