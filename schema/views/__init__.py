"""SQL views, one file each, and the order in which they are built."""
