"""Configs that ship."""
