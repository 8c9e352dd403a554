"""Brain signals as discrete tokens, by one protocol: LiPCoT (linear prediction) and BrainTokenizer (learned)."""
