"""Gravitational lensing as pure functions on tensors, and the lens simulator built on them."""
