"""Weights that lie on the grid of their codes before the quantiser sees them."""
