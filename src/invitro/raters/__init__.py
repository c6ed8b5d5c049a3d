"""How reliable each rater is: error variances, reliability, and a rater that only counts words."""
