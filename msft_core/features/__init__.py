"""Features: outputs of the frozen prefix, computed once for each view of each image and stored.

They only save time. A run without this package is slower and otherwise the same.
"""
