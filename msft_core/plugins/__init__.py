"""How the code of others gets in: loading, hook calls, checks of hook results."""
