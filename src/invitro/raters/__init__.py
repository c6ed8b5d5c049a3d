"""How reliable each rater is: error variances, a rater that only counts words, and all raters as one model."""
