"""Presents EnvPool's and Gymnasium's environments as one vectorised pool."""
