import subprocess
import sys

CODE = """
import sys
from acft.constraints import parse_constraints
from acft.scorers import SCORERS, scorer_problem
parse_constraints([{"kind": "scorer", "scorer": "jigsaw_tcc"}])
[scorer_problem(name) for name in SCORERS.names()]
print(*sorted({"torch", "transformers", "sklearn", "h5py"} & set(sys.modules)))
"""


def test_settings_are_checked_without_loading_a_model_library():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
