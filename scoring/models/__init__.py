"""One file per model: reference, equations, configuration, preprocessing and network."""
