"""Light of galaxies and what an instrument makes of it: profiles, PSFs, magnitudes and noise."""
