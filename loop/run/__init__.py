"""A run on disk: its folder, what lies where in it, and what of it may be trusted."""
