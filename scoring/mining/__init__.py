"""Mining campaigns: coarse, fine and search rounds, each learning from what the one before it scored."""
