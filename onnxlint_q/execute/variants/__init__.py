"""Variants of the folded float model, run beside it on the same samples."""
