"""A study's figures: one specification each, for the page and for the paper."""
