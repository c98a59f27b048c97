"""(draw, seeds) -> images."""
