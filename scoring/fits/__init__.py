"""Fits of the lines that models found: skew-normal plus constant, and the [OII] alternative."""
