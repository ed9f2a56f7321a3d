"""``python -m acft.inference DEVICE``: an inference process, started by the workbench."""

from acft.inference.server import main

main()
