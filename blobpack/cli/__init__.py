"""The command line: main.py, then one file per command. A command parses, calls the library, and prints."""
