"""Ranged GETs over HTTP: connections, their pool, retries, hedging, and the store of an http(s) URL."""
