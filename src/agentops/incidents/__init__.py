"""What is done when things go wrong: the kill switch, and putting back what it switched off."""
