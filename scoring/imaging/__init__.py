"""Training of the image models: simulated sets, augmentation, the published and today's ways to train, cards."""
