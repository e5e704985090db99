"""LensGenerator: adversarial augmentation of few known lenses, and what it adds to training."""
