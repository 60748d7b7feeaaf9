"""Rules about BatchNormalization: gains that stretch the folded weight, and nodes that do not fold."""
