"""The nodes of the graph: parameters, wiring, one call into the core per callback; and what starts them."""
