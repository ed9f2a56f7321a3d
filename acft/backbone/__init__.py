"""Everything that touches transformers and peft: loading, adapters, forward passes, export."""
