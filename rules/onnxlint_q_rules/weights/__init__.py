"""Rules about the weights of a layer: what one int8 scale does to them, or has done."""
