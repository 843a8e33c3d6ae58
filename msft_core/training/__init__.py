"""Train on batches: the step, its compilation, losses, schedules and the train state."""
