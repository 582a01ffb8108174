"""Reads and writes the results folder safely."""
