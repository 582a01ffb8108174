"""Decides which runs need training, and trains them in worker processes."""
