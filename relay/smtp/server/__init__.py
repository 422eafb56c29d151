"""Server: SMTP towards the applications of this host."""
