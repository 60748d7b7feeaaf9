"""How signal and noise pass through each kind of operator: one rule a kind."""
