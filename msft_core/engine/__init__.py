"""One file for each command, such as ``run``. Each file can be read from top to bottom."""
