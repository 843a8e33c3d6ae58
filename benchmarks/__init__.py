"""Speed and memory of msft and of its peers, on the same pictures and the same cores.

From the project's root, with photographs in ``DIR/train/CLASS`` and ``DIR/val/CLASS``::

    python -m benchmarks --data DIR
    python -m benchmarks --data DIR --only finetune pipeline --quick
    python -m benchmarks.views DIR

The first prints medians, ratios and targets, and writes a JSON file with every raw timing, the
versions and the machine. The last measures how ``training.views`` changes accuracy. Nothing in
here is a test, and none of it is in the wheel. ``pip install ".[bench]"`` brings the peers; where
PyTorch lives in an environment of its own, ``--torch-python`` names its interpreter. What is not
installed is reported as not measured.

Where to look:

- ``__main__``: options, and which comparisons run.
- ``comparisons``: one module for each, from a plan to an outcome.
- ``ours``, ``peers``: what msft and the others run, each in a process of its own.
- ``commands``, ``turns``: processes timed from start to end, and processes that take turns.
- ``pictures``, ``machine``, ``outcome``, ``table``: data, environment, results, output.

The peers run under another interpreter, maybe without rich or msft: importing this package imports
nothing.
"""
