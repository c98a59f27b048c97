"""Exporting: which images a data set is to hold, and its files."""
