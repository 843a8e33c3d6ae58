"""Programs of the developers. They are not part of the package."""
