"""What the outputs of a model hold, and which of their positions count."""
