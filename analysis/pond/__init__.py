"""The embedded world's encoders, and what trains them."""
