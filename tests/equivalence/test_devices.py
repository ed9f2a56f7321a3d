import os
import shutil
import sys

import pytest

from tests.device.pretend import COMPILER
from tests.programs import output_of

SECONDS = 800


@pytest.mark.equivalence
def test_everything_says_the_same_on_a_device_that_is_strict_about_where_tensors_are(request):
    if shutil.which(COMPILER) is None:
        pytest.skip(f"the device is built by a C++ compiler, and there is no {COMPILER!r}")
    options = ["--slow"] if request.config.getoption("--slow") else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    said = output_of([*command, "tests/device/on_pretended_device.py"], os.environ, SECONDS)
    assert " passed" in said
