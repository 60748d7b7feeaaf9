"""Rules about a quantised file beside its float original; `compare` runs them."""
