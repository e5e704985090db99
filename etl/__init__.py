"""Survey files to rows and pixel shards; imports schema only."""
