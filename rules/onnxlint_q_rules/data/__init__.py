"""Rules about the calibration data itself."""
