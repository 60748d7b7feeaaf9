"""Weights that lie in a model as codes, found and read."""
