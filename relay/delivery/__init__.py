"""Delivery: from a mail that is due to outcomes that are written down."""
