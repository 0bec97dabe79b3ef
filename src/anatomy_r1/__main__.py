"""``python -m anatomy_r1``: the command ``anatomy-r1``."""

from anatomy_r1.cli import main

main()
