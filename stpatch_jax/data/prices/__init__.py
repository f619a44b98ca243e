"""Tables of prices: the problem, its representations, tables and cleaning."""
