"""What stands in a file and what a run saw of it, row by row: the tables of `inspect`, and some of `check`'s."""
