"""One verb a file, each readable from top to bottom."""
