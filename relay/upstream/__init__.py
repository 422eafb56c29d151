"""The way to the providers."""
