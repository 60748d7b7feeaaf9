"""PROVE: run the model on samples, and test what was claimed."""
