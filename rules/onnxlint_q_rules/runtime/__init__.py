"""Whether a file loads and runs where it goes, and computes there what it says."""
