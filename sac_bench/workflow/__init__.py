"""Runs whole experiments: loads, trains, collects and reports, for the command line and Python."""
