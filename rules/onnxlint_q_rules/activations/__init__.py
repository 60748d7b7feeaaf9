"""Rules about activations, from what a run on calibration data saw."""
