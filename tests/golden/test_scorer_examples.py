"""The examples printed in two packages' own descriptions, computed by their authors with Keras.

The sentences are read from the packages, not repeated here.
"""

import ast
import re

import pytest

from acft.assets import asset_path
from acft.scorers import load_scorer
from acft.scorers.jigsaw_toxblock import TOXIC_RANGE
from acft.scorers.ports.keras_bilstm import LABELS, KerasBiLstmScorer

pytestmark = [pytest.mark.assets, pytest.mark.golden]


def description(package):
    (file,) = asset_path(package).glob("*.dist-info/METADATA")
    return file.read_text(encoding="utf-8")


def first(pattern, text):
    """What the pattern finds first; the packages are pinned, so it finds something."""
    (found,) = re.findall(pattern, text, re.DOTALL | re.MULTILINE)[:1]
    return found


def bilstm(name):
    scorer = load_scorer(name)
    assert isinstance(scorer, KerasBiLstmScorer)
    return scorer


def test_toxic_comment_classifier_gives_its_six_printed_probabilities():
    text = description("toxic-comment-classifier")
    sentence = first(r'^text = "(.*?)"$', text)
    printed = ast.literal_eval(first(r"\{'toxic'.*?\}", text))
    (found,) = bilstm("jigsaw_tcc").probabilities([sentence]).tolist()
    assert dict(zip(LABELS, found, strict=True)) == pytest.approx(printed, abs=1e-6)


@pytest.fixture(scope="module")
def tox_block_examples():
    text = description("tox-block")
    block = first(r"```python\n(\{\s*0: .*?\n\})", text)
    return list(ast.literal_eval(block).values())


def test_tox_block_gives_its_printed_toxicities(tox_block_examples):
    found = load_scorer("jigsaw_toxblock").score([row["text"] for row in tox_block_examples])
    assert found == pytest.approx([row["toxic"] for row in tox_block_examples], abs=1e-6)


def test_tox_block_gives_its_printed_probabilities_of_all_labels(tox_block_examples):
    table = (asset_path("tox-block") / "tox_block/config/config.py").read_text(encoding="utf-8")
    ranges = ast.literal_eval(first(r"RESCALE_PROBA = (\{.*?\})", table))
    assert ranges["toxic"] == TOXIC_RANGE
    scorer = bilstm("jigsaw_toxblock")
    rows = scorer.probabilities([row["text"] for row in tox_block_examples]).tolist()
    for row, printed in zip(rows, tox_block_examples, strict=True):
        for label, probability in zip(LABELS, row, strict=True):
            low, high = ranges[label]
            assert abs((probability - low) / (high - low)) == pytest.approx(
                printed[label], abs=1e-6
            )
