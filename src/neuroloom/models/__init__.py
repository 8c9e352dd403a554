"""Foundation models: encoders that are pretrained on recordings without labels and read everywhere."""
