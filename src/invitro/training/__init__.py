"""Training: one run from its texts and labels to its record."""
