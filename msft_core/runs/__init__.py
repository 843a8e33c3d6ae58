"""The run folder, its checkpoints, and a run as callbacks see it."""
