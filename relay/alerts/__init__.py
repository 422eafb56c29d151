"""Alerts: when somebody is to be told that something is wrong, and how they are told."""
