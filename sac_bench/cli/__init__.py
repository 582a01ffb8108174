"""Parses commands and prints."""
