"""Fused operators, written out as plain ones."""
