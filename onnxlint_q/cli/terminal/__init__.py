"""What a terminal sees of a process: its streams, its progress, and how signals end it."""
