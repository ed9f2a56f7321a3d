import os
import sys

import pytest

from tests.programs import output_of

SECONDS = 800


@pytest.mark.equivalence
def test_everything_says_the_same_on_a_device_that_is_strict_about_where_tensors_are(request):
    options = ["--slow"] if request.config.getoption("--slow") else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    said = output_of([*command, "tests/device/on_pretended_device.py"], os.environ, SECONDS)
    assert " passed" in said
