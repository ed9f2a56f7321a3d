"""The workbench in the browser: pages over run directories; imports no tensors."""
