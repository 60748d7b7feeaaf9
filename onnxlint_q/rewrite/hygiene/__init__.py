"""Rewrites that change no value: what a file needs so that quantisers treat its nodes and constants as they are."""
