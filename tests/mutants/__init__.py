"""Mutation testing: change one expression of the code at a time, and check that a test fails."""
