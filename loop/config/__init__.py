"""What a person writes: the schema of a config, its YAML, and a starter for a folder of photos."""
