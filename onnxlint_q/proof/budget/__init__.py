"""How much is proven, and on how many samples."""
