"""What a run says while it works: to a terminal, to a log, as JSON."""
