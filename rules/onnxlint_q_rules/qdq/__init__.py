"""Rules about the scales and zero points of a model that is quantised already."""
