"""Turn a table of encoded images into batches."""
