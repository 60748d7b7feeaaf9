"""Rules about the weights of a float model: what one int8 scale does to them."""
