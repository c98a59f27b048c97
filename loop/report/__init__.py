"""Words and pages for people, made from a run folder alone."""
