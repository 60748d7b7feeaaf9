"""The search for a recipe: how a float model is quantised so that it reaches a goal at the least cost."""
