"""The batch script of the scaling guide, with a scheduler that is played on this machine."""

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

from acft.runs.directory import all_runs, read_status
from acft.runs.status import current_state
from tests.fake_runs import wait_until
from tests.programs import ended
from tests.tiny_run import tiny_settings

GUIDE = Path(__file__).parents[2] / "experiments" / "SCALING.md"
SRUN = """#!/bin/bash
# One process stands for all: what follows torchrun's own options is done once, under one python.
while [ "$1" != "-m" ]; do shift; done
exec python "$@"
"""


def recipe() -> str:
    (script,) = re.findall(
        r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL
    )
    return script


def place(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def test_the_signal_before_the_end_of_a_job_saves_the_round_and_the_next_job_goes_on(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    place(tools / "scontrol", "#!/bin/bash\necho node1\necho node2\n")
    place(tools / "srun", SRUN)
    place(tools / "python", f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    place(tmp_path / "job.sh", recipe())
    (tmp_path / "run.toml").write_text(
        tiny_settings(tmp_path).replace("rounds = 2", "rounds = 500")
    )
    runs = tmp_path / "runs"
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    environment = os.environ | slurm | {"PATH": f"{tools}:{os.environ['PATH']}"}

    def rounds_after_a_job(before: int) -> int:
        job = subprocess.Popen(
            ["bash", str(tmp_path / "job.sh"), str(tmp_path / "run.toml"), str(runs)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        with ended(job):
            wait_until(
                lambda: any(read_status(p).round > before for p in all_runs(runs)), "a round"
            )
            job.send_signal(signal.SIGUSR1)
            _, said = job.communicate(timeout=120)
        (paths,) = all_runs(runs)
        status, state = current_state(paths)
        assert state.state == "stopped", said
        assert (paths.root / status.checkpoint).is_dir()
        return status.round

    first = rounds_after_a_job(before=0)
    assert 1 <= first < rounds_after_a_job(before=first) < 500
