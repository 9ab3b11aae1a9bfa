"""What a pool process does for a run that has a process of its own: it has the message, the other the function."""
