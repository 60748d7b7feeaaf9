"""A quantised file as it runs where nothing else is asked for, and its operators alone."""
