"""Scorers for tests: a rule instead of weights, and folders with tiny random classifiers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes import N_TOKENS, PAD, pretrained_byte_tokenizer


@dataclass
class RuleScorer:
    """The share of the letter ``x``; remembers what it was asked."""

    name: str = "rule"
    version: str = "1"
    sha256: str = "0" * 64
    asked: list = field(default_factory=list)

    def score(self, texts):
        self.asked.append(list(texts))
        return [text.count("x") / max(1, len(text)) for text in texts]


@dataclass
class AnswerScorer(RuleScorer):
    """Gives one fixed answer, whatever the texts."""

    answer: Any = None

    def score(self, texts):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def tiny_bert(n_labels, *, seed=0, **settings):
    """A BERT classifier over bytes with random weights."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=N_TOKENS, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=96, pad_token_id=PAD,
        initializer_range=0.3, **{"num_labels": n_labels, **settings},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForSequenceClassification(config).eval()


def save_classifier(folder, labels, **settings) -> Path:
    """A folder as ``save_pretrained`` writes it."""
    names = dict(enumerate(labels))
    model = tiny_bert(len(labels), id2label=names, **settings)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return Path(folder)


def save_detoxify(folder, labels=("toxic", "insult"), **parts) -> Path:
    """A folder with a checkpoint as detoxify's trainer writes it; ``parts`` replace its parts."""
    import torch

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny_bert(len(labels))
    settings = {
        "arch": {"args": {"num_classes": len(labels), "model_type": "bert-base-uncased"}},
        "dataset": {"args": {"classes": list(labels)}},
    }
    checkpoint = {"state_dict": model.state_dict(), "config": settings, **parts}
    torch.save(checkpoint, folder / "toxic_original-00000000.ckpt")
    model.config.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer():
    tokenizer = pretrained_byte_tokenizer()
    tokenizer.model_max_length = 96
    return tokenizer
