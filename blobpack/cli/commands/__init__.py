"""The commands, one file for each: it parses, calls one library function, and prints."""
