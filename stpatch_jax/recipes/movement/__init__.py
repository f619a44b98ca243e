"""Whether stocks rise or fall."""
