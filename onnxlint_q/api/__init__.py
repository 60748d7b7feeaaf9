"""CALL: the door for programs."""
