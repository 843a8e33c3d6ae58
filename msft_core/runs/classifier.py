"""A trained classifier: from images to class names and probabilities."""

from __future__ import annotations


class Classifier:
    """A trained classifier."""
