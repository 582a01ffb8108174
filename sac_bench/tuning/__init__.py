"""Hyperparameters found by search, and whether what was found holds on seeds that the search never saw."""
