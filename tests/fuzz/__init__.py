"""Fuzzers: each makes inputs from a seed, most of them nearly right, and compares what blobpack makes of them with an oracle."""
