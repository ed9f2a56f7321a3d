"""A process beside the workbench that holds what the workbench must not: tensors and models.

One such process for each device, started on demand, ended before training needs the device. The
workbench talks to it through its standard input and output, one JSON line for each message.
"""
