"""How agents without a centre agree on what they share. Nothing here imports Ray."""
