"""MEASURE: what can be known without running the model."""
