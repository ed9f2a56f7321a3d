"""Starts the workbench; what a Space runs."""

import sys

from acft.ui.app import main

if __name__ == "__main__":
    sys.exit(main())
