"""What a run leaves, and how callbacks see a run."""
