"""The embedded world: a renderer of scenes, a small diffusion pipeline, and what trains it."""
