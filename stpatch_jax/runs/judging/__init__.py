"""What scores a task on data and tells it: one judge a kind, found by a registry."""
