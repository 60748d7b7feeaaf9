"""The words of the command line: options as types, and what was typed as requests."""
