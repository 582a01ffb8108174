"""Turns a TOML file into an experiment: variants, their configs, and runs with ids."""
