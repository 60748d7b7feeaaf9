"""A quantised file beside its float original: errors, jumps and what is at fault."""
