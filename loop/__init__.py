"""The controller and what a person drives."""
