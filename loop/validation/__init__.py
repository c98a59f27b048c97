"""Validation: classifiers trained on synthetic images and tested on real photos."""
