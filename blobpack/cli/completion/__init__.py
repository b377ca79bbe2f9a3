"""Completions for the shell: what can follow a word, and the scripts that make shells ask for it."""
