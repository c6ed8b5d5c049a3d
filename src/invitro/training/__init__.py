"""Training: one run from its material to its record."""
