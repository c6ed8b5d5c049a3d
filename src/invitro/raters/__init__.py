"""How reliable each rater is: error variances, a rater that only counts words, and a joint model of all raters."""
