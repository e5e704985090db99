"""Simulated spectra with known truth: galaxies, noise and emission lines, in batches on tensors."""
