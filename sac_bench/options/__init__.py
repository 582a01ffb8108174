"""What each algorithm declares: its options, its version and the metrics that it reports. Nothing here needs torch."""
