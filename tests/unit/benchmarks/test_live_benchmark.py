import pytest

from benchmarks.live import main


@pytest.mark.slow
@pytest.mark.assets
def test_every_wait_is_told_as_a_multiple_of_what_it_is_compared_with(capsys):
    assert main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(float(line.split()[-2]) > 0 for line in lines)
