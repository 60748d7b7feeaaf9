"""The plain values that a run fills and rules read: data summaries, histograms, observations, observers."""
