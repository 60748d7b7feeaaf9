"""Operators that hold graphs of their own, and lists that these graphs fill."""
