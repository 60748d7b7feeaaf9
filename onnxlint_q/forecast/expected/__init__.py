"""What a run on data is expected to measure, and how sure that is."""
