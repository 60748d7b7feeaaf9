"""Two files of one network: which value of the one is which value of the other, by topology."""
