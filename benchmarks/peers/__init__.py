"""What the others run: PyTorch, and mindcv on MindSpore. Each module is a process of its own."""
