"""What a process may hold in memory, of the machine and of a GPU."""

import psutil
import torch

from acft.machine import free_memory


def test_free_memory_of_a_gpu_counts_what_this_process_holds_of_it_already(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: {"cuda:1": (100, 900)}[device])
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: {"cuda:1": 20}[device])
    assert free_memory("cuda:1") == 120


def test_free_memory_of_the_machine_is_no_more_than_it_has():
    own = psutil.Process().memory_info().rss // 2
    assert own < free_memory("cpu") <= psutil.virtual_memory().total
