"""DO: one file a command: a request in, stages, a result out."""
