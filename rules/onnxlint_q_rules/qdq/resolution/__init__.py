"""What the codes of an activation resolve: halves that are never used, and values under half a step."""
