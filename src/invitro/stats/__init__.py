"""Statistics: agreement, bootstrap intervals, paired tests, prediction-powered estimates."""
