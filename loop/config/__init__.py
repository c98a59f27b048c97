"""What a person writes: the schema of a config, its YAML, and what is wrong with it."""
