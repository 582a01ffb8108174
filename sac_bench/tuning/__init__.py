"""Hyperparameter search, and the check of its winner on seeds that the search did not use."""
