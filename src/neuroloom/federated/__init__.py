"""Fine-tuning by sites that keep their recordings: Flower carries named tensors, and every site trains its own part."""
