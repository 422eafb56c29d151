"""Drop: the folder in which mail is left while no daemon answers, and from which the daemon takes it."""
