"""Value at risk of stocks."""
