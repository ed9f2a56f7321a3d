"""Everything that touches transformers and peft: loading, adapters, forward passes, export."""

import logging

# Whoever installed bitsandbytes would read about its missing kernels in every run: peft imports it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
# GPT-2 warns of texts padded on the right that come without a mask, which they do not need.
logging.getLogger("transformers.modeling_utils").addFilter(
    lambda record: "passing in an `attention_mask`" not in record.getMessage()
)
