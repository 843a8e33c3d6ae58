"""What msft runs: each module is a process of its own, but for the plugin ``marks``."""
