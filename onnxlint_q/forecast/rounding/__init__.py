"""Activations: over which range each of them is rounded, and what that costs."""
