"""The command line: `main.py` and one file for each command. A command parses, calls the library, and prints."""
