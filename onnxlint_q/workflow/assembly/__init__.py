"""From the record of what the stages found to the values that reports read."""
