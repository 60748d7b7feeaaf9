"""Channels that hold one value: made by biases, so that they set no scale."""
