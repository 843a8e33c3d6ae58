"""``python -m msft_core`` is ``msft``."""

from msft_core.cli import main

main()
