"""What synthetic inputs are made of."""
