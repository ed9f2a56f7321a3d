"""Which sequences the token values belong to, and that each can be read again."""

import pyarrow.parquet as pq
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from acft.backbone.loading import load_backbone
from acft.runs.spec import parse_spec
from acft.training.fit_job import _forward, _pieces
from acft.training.guidance import GuidanceTap
from acft.training.oracle_job import Guide
from acft.training.regularizer import Regularizer
from acft.training.world import World
from tests.tiny_run import tiny_settings, train
from tests.toy_runs import ConstantOracle, Trained, toy_run, trained, world_of

ACFT = {"name": "acft"}


@pytest.fixture(scope="module")
def on_policy(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("on-policy")
    run = toy_run(folder, "schedule.rounds=2")
    return trained(folder / "run", run, ACFT | {"prefixes": ["on_policy"]})


def sequences(result: Trained) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in sorted(result.rows("guidance"), key=lambda row: (row["step"], row["position"])):
        found.setdefault(row["sequence_id"], []).append(row)
    return found


def test_a_sequence_drawn_by_the_run_is_a_rollout_of_its_table(on_policy):
    rollouts = {row["rollout_id"]: row for row in on_policy.rows("rollouts")}
    assert sequences(on_policy)
    for name, rows in sequences(on_policy).items():
        assert {row["source"] for row in rows} == {"rollout"}
        stored = [row["token_id"] for row in rows if row["in_loss"]]
        assert stored == rollouts[name]["response_ids"]


def test_special_tokens_are_stored_by_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    text, lines = tiny_settings(tmp_path), tmp_path / "ends.txt"
    backbone = load_backbone(parse_spec(text).settings.model, "cpu", "float32")
    end = backbone.tokenizer.eos_token
    lines.write_text("\n".join(f"Hear the sea {n} times.{end} And the sand." for n in range(9)))
    paths, _ = train(text, tmp_path / "runs", f"corpus.0.source={str(lines)!r}")
    shards = map(pq.read_table, paths.shards.glob("guidance-*"))
    rows = [row for shard in shards for row in shard.to_pylist()]
    ends = [row["token_text"] for row in rows if row["token_id"] in backbone.end_ids]
    assert set(ends) == {end}


def test_a_text_of_the_corpus_is_stored_whole_with_its_first_token(tmp_path):
    run = toy_run(tmp_path, "schedule.rounds=1")
    result = trained(tmp_path / "run", run, ACFT)
    known = {tuple(document.token_ids) for document in documents(world_of(run))}
    assert sequences(result)
    for rows in sequences(result).values():
        assert {row["source"] for row in rows} == {"corpus"}
        assert rows[0]["position"] == 0
        assert not rows[0]["in_loss"]
        assert tuple(row["token_id"] for row in rows) in known


def test_a_text_that_a_step_reads_several_times_is_stored_once(tmp_path):
    run = toy_run(tmp_path, "schedule.rounds=1")
    few = tmp_path / "few.txt"
    few.write_text("\n".join((tmp_path / "lines.txt").read_text().splitlines()[:6]))
    repeated = run.model_copy(
        update={"corpus": (run.corpus[0].model_copy(update={"source": str(few)}),)}
    )
    assert len(documents(world_of(repeated))) < run.optimizer.batch_size
    result = trained(tmp_path / "run", repeated, ACFT)
    assert sequences(result)
    for rows in sequences(result).values():
        assert [row["position"] for row in rows] == list(range(len(rows)))
        kl = sum(row["kl_guided_policy"] for row in rows if row["in_loss"])
        assert kl == pytest.approx(rows[0]["kl_logged"])


def documents(world: World):
    return [document for _, corpus in world.corpora for document in corpus]


class Looks(TorchDispatchMode):
    """Counts single values that are fetched from tensors; for each of them a GPU is waited for."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_gpu_is_waited_for_a_few_times_a_sequence_and_not_for_each_token(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    world = world_of(toy_run(tmp_path))
    rule = Regularizer(Guide(ConstantOracle(-10.0), 1.0, 0), world.base, 1.0)
    (piece,) = _pieces(world.corpora[0][1][:2], [], rule, 2, 1.0)
    n_tokens = sum(len(document.token_ids) for document in piece.documents)
    tap = GuidanceTap(world, 0, 1, limit=2)
    _, done = _forward(world, piece, keeps=True)
    assert done.seen is not None
    with Looks() as looks:
        tap.take([done.seen])
    (rows,) = tap.rows(1, 1)
    assert len(list(rows.rows)) == n_tokens
    assert looks.n < n_tokens / 2


def test_passes_side_by_side_keep_the_same_sequences_in_the_same_order(tmp_path):
    kept = []
    for threads in (1, 2):
        run = toy_run(
            tmp_path, "schedule.rounds=1", f"schedule.threads={threads}",
            "optimizer.micro_batch_size=2",
        )  # fmt: skip
        rows = trained(tmp_path / str(threads), run, ACFT).rows("guidance")
        kept.append([(row["sequence_id"], row["position"], row["token_text"]) for row in rows])
    assert len({name for name, *_ in kept[0]}) > 2, "of more than one pass"
    assert kept[0] == kept[1]
