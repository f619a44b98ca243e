"""What an answer of a run came from."""
