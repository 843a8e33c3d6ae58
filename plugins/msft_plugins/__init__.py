"""The plugins that come with msft. Their only list is the entry points in pyproject.toml."""
