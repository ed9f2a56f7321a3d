from benchmarks import store as benchmark


def test_every_stage_of_the_benchmark_works_at_a_small_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "REPEATS", 2)
    results: dict[str, float] = {}
    for stage in benchmark.STAGES.values():
        results |= stage(tmp_path / "runs", 0.002)
    assert set(benchmark.BARS) <= set(results)
    assert results["rollouts"] == 2000
