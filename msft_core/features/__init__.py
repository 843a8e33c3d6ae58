"""Outputs of frozen stages, computed once for each image and view. Without them a run is slower,
and nothing else.
"""
