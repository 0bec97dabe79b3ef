"""``python -m anatomy_r1.cli``, for launchers such as accelerate."""

from anatomy_r1.cli.main import main

main()
