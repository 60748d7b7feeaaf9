"""MEND: rewrites that leave the float outputs what they were; each says in words when it does not apply."""
