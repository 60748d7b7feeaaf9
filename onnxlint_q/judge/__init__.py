"""JUDGE: what a rule is and sees, which rules run, how they are configured, where verdicts change."""
