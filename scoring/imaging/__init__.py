"""Training of the image models: simulated sets, augmentation, published and today's training, cards."""
