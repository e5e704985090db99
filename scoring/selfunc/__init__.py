"""The selection function: P(selected | what a lens is like), measured with lenses put through it all."""
