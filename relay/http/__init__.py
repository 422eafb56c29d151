"""The status page and its figures, over HTTP on loopback."""
