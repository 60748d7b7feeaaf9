"""What synthetic inputs show: of what they are made, how many of them are taken, what is run on them."""
