"""Embeddings -> what is wrong, and how sure we are."""
