"""What a model goes through once its file is known."""
