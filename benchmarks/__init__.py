"""How fast the built functions are, as ratios to references that are measured beside them: `make bench`."""
