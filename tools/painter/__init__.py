"""The program that drew the pictures of the dataset ``sample``: dogs and wolves in many places.

``python -m tools.painter OUT`` draws all of them again. A picture depends on the seed and its id
alone. The program needs NumPy and Pillow, and nothing of msft.
"""
