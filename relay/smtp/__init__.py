"""The wire: grammar and data, which know no network, and the server that speaks them."""
