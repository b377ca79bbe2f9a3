"""Stores: each delivers the bytes of one blob."""
