"""Plugins: loading, hook calls, and checks of hook results."""
