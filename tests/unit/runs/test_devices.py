import sys
import types
from pathlib import Path

import pytest

from acft.errors import ConfigError
from acft.runs import devices
from acft.runs.devices import Device, gpu_obstacle
from acft.runs.spawn import environment


class Memory:
    total = 80 * 2**30

    def __init__(self, free):
        self.free = free


@pytest.fixture
def driver(monkeypatch):
    """A driver library that reports the memory it is told to."""
    library = types.SimpleNamespace(
        __spec__=object(),
        free=Memory.total,
        NVMLError=type("NVMLError", (Exception,), {}),
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetMemoryInfo=lambda _: Memory(library.free),
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


def test_a_gpu_that_others_use_takes_no_run(driver):
    assert gpu_obstacle("cuda:0") == ""
    driver.free = 10 * 2**30
    assert gpu_obstacle("cuda:0") == "70 GiB of 80 GiB of cuda:0 are in use by other processes"


def test_a_gpu_named_by_its_uuid_is_asked_for_its_memory(driver):
    driver.free = 10 * 2**30
    assert gpu_obstacle("cuda:GPU-5f3c").startswith("70 GiB of 80 GiB of cuda:GPU-5f3c")


def test_a_gpu_whose_driver_fails_takes_no_run_and_says_why(driver, monkeypatch):
    def fail():
        raise driver.NVMLError("GPU is lost")

    monkeypatch.setattr(driver, "nvmlInit", fail)
    assert gpu_obstacle("cuda:0") == (
        "the driver of cuda:0 does not answer (GPU is lost); nvidia-smi shows its state"
    )


def test_nothing_is_known_about_other_devices(driver):
    driver.free = 0
    assert gpu_obstacle("cpu") == ""


@pytest.fixture
def two_gpus(monkeypatch):
    found = [Path("/dev/nvidia1"), Path("/dev/nvidia0"), Path("/dev/nvidia-caps")]
    monkeypatch.setattr(Path, "glob", lambda *_: iter(found))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def names():
    return [device.name for device in devices.devices() if device.name.startswith("cuda")]


def test_gpus_are_found_and_counted_from_zero(two_gpus):
    assert names() == ["cuda:0", "cuda:1"]


def test_a_container_that_has_one_gpu_of_eight_counts_it_as_its_first(monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda *_: iter([Path("/dev/nvidia5")]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert names() == ["cuda:0"]


def test_a_process_counts_gpus_as_we_do(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    by_bus = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert devices.variables("cuda:3") == {"CUDA_VISIBLE_DEVICES": "3"} | by_bus
    assert devices.variables("cpu") == devices.variables("mps") == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert devices.variables("cuda:3") == {"CUDA_VISIBLE_DEVICES": "3"}
    assert environment()["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", ["cuda:1"]),
        ("", []),
        ("0,1", ["cuda:0", "cuda:1"]),
        ("GPU-5f3c,MIG-77aa", ["cuda:GPU-5f3c", "cuda:MIG-77aa"]),
    ],
)
def test_hidden_gpus_are_not_used(two_gpus, monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert names() == expected


@pytest.mark.parametrize(("cores", "slots"), [(1, 1), (2, 1), (4, 2), (9, 4)])
def test_the_cpu_takes_a_run_for_every_two_cores(monkeypatch, cores, slots):
    monkeypatch.setattr(devices, "cores", lambda: cores)
    assert devices.devices()[-1] == Device("cpu", slots)


def test_how_many_runs_share_the_cpu_can_be_set(monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 8)
    monkeypatch.delenv(devices.CPU_RUNS, raising=False)
    assert devices.devices()[-1] == Device("cpu", 4)
    monkeypatch.setenv(devices.CPU_RUNS, "8")
    assert devices.devices()[-1] == Device("cpu", 8)


@pytest.mark.parametrize("wanted", ["9", "0", "-1", "two"])
def test_a_number_of_cpu_runs_beyond_the_cores_is_refused(monkeypatch, wanted):
    monkeypatch.setattr(devices, "cores", lambda: 8)
    monkeypatch.setenv(devices.CPU_RUNS, wanted)
    with pytest.raises(ConfigError, match=f"ACFT_CPU_RUNS is '{wanted}'; set it to .* 1 to 8"):
        devices.devices()
