"""What ran, what is stale and why: the counts behind ``lensmine status``."""
