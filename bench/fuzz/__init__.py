"""Files that are nearly right: valid models with a few things changed, given to every command."""
