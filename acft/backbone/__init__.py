"""Everything that touches transformers and peft: loading, adapters, forward passes, export."""

import logging

# Whoever installed bitsandbytes would read about its missing kernels in every run: peft imports it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
