"""Every plugin that comes with msft; pyproject.toml lists them once, as entry points."""
