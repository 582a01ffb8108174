"""Collects an experiment's runs into tables, and reads these."""
