"""What each input of a model holds, and which of its values mean that a position counts."""
