"""How sure the tool is: learns the tables of the level on a corpus of networks, and checks them."""
