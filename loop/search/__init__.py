"""The search of one class: what may be varied, what was tried, which mixture that leaves."""
