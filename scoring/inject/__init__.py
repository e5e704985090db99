"""Simulated lenses as ordinary targets: whole images, or arcs on real cutouts, with their truth."""
