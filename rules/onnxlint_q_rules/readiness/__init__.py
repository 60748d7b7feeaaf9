"""Rules about what the usual quantisers cannot take, or pass over without a word."""
