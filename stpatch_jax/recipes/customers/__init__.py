"""What customers will buy."""
