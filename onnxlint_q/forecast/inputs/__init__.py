"""What the inputs of a network hold, as samples."""
