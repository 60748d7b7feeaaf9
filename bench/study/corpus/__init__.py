"""Networks with measured truth, wide enough to learn the level of a forecast on and to check it on held families."""
