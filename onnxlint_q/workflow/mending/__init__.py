"""Commands that write models: what they take, what they do, and the plain values that reports read."""
