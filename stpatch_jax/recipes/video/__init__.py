"""Video made from digits."""
