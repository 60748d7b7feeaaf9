"""The trial of rewrites that findings advise: planned, run whole, and told."""
