"""What each rater is worth: error variances, reliability, and a rater that only counts words."""
