"""What the first convolution and its statistics tell of the images a model was trained on."""
