"""The mean error of quantised layers, one after the other."""
