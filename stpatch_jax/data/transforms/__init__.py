"""What is done to values and undone on the way out: cleaning, steps, pipelines."""
