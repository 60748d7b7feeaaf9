"""One streaming pass over the samples: every tensor's statistics in flat memory."""
