"""From a table of encoded images to batches."""
