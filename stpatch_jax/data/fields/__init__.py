"""Fields over time and space: the problem, its windows, cleaning, climatology, files."""
