"""How sure the tool is: learns the tables of `onnxlint_q.forecast.level` on a corpus of networks, and checks them."""
