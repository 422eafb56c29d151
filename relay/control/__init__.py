"""Control: the socket over which commands reach the daemon, and what they may ask."""
