"""From batches to weights: the step, its compilation, losses, schedules, the train state."""
