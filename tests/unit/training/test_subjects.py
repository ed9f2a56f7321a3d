from typing import Any, cast

import pytest

from acft.constraints import build_constraint
from acft.decoding.base import DECODERS, DecoderKind
from acft.errors import DataError
from acft.scoring import ScorerPool
from acft.training.subjects import SubjectSettings, open_policy, open_sampler
from tests.bench import run_settings
from tests.fakes import save_tiny_model


def test_a_decoder_that_builds_nothing_is_told_before_anything_is_measured(tmp_path, monkeypatch):
    nothing = cast("Any", lambda settings, context: None)
    monkeypatch.setitem(DECODERS._items, "own", DecoderKind(nothing))
    run, pool = run_settings(save_tiny_model(tmp_path)), ScorerPool()
    subject = SubjectSettings(decoder="own")
    constraint = build_constraint(run.constraint, pool)
    with pytest.raises(DataError, match=r"decoder 'own': what builds it .* gave None"):
        open_sampler(run, subject, open_policy(run, subject), constraint, pool)
