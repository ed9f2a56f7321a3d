import json

import pytest

from acft.errors import ConfigError, ModelError
from acft.scorers import check_scorer_name, load_scorer, scorer_problem
from acft.scorers.local import find_local
from tests.fake_scorers import save_classifier, tiny_bert


@pytest.fixture
def folder(tmp_path):
    """A model's folder as far as can be told without opening the weights."""

    def make(labels=("fine", "toxic"), **settings):
        names = {str(index): label for index, label in enumerate(labels)}
        (tmp_path / "config.json").write_text(json.dumps({"id2label": names, **settings}))
        (tmp_path / "model.safetensors").touch()
        return tmp_path

    return make


def test_the_toxic_label_is_found_by_itself(folder):
    assert find_local(f"model:{folder(['fine', 'Toxicity'])}").label_index == 1


def test_a_label_is_chosen_by_name_whatever_its_case(folder):
    assert find_local(f"model:{folder(['spam', 'rude', 'toxic'])}#RUDE").label_index == 1


def test_a_single_output_needs_no_label(folder):
    found = find_local(f"model:{folder(['LABEL_0'])}")
    assert (found.label_index, found.activation) == (0, "sigmoid")


def test_labels_that_exclude_each_other_get_a_softmax(folder):
    assert find_local(f"model:{folder()}").activation == "softmax"


def test_independent_labels_get_a_sigmoid(folder):
    path = folder(problem_type="multi_label_classification")
    assert find_local(f"model:{path}").activation == "sigmoid"


def test_without_names_the_default_ones_can_be_chosen(folder):
    assert find_local(f"model:{folder(id2label=None)}#LABEL_1").label_index == 1


def test_no_such_label_lists_those_there_are(folder):
    with pytest.raises(
        ModelError, match="no label 'rude' in that model; add # and one of fine, toxic"
    ):
        find_local(f"model:{folder()}#rude")


def test_two_fitting_labels_are_not_decided_silently(folder):
    with pytest.raises(ModelError, match="more than one label"):
        find_local(f"model:{folder(['toxic', 'toxicity'])}")


def test_pickled_weights_are_refused(folder):
    path = folder()
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \.safetensors file; pickled weights are not loaded"):
        find_local(f"model:{path}")


def test_a_missing_folder_says_what_to_give():
    with pytest.raises(ModelError, match=r"cannot read 'nowhere/config\.json'.*save_pretrained"):
        load_scorer("model:nowhere")
    assert "nowhere" in scorer_problem("model:nowhere")


@pytest.mark.parametrize("text", ["[]", "{"])
def test_a_damaged_configuration_is_an_error(folder, text):
    path = folder()
    (path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        find_local(f"model:{path}")


def test_weights_of_another_kind_are_an_error_of_the_scorer(folder):
    path = folder(model_type="bert")
    assert scorer_problem(f"model:{path}") == ""
    with pytest.raises(ModelError, match="cannot be loaded as a classification model"):
        load_scorer(f"model:{path}")


def test_a_model_without_a_classification_head_is_refused(tmp_path):
    path = save_classifier(tmp_path, ["fine", "toxic"])
    tiny_bert(2).bert.save_pretrained(path / "headless")
    (path / "headless/config.json").write_text((path / "config.json").read_text())
    for file in path.glob("tokenizer*"):
        (path / "headless" / file.name).write_text(file.read_text())
    with pytest.raises(ModelError, match=r"lacks 2 weights, such as 'classifier\.bias'"):
        load_scorer(f"model:{path / 'headless'}")


def test_code_in_the_folder_is_not_run(tmp_path):
    path = save_classifier(tmp_path / "model", ["fine", "toxic"])
    (path / "code.py").write_text("import pathlib\npathlib.Path('attacked').touch()\n")
    settings = json.loads((path / "config.json").read_text())
    settings |= {
        "auto_map": {"AutoConfig": "code.C", "AutoModelForSequenceClassification": "code.M"},
        "model_type": "unheard-of",
    }
    (path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError):
        load_scorer(f"model:{path}")
    assert not list(tmp_path.rglob("attacked"))


def test_the_score_is_the_models_own_probability(tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = save_classifier(tmp_path, ["fine", "rude", "toxic"])
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    inputs = AutoTokenizer.from_pretrained(path)(["a short text"], return_tensors="pt")
    with torch.inference_mode():
        probs = model(inputs["input_ids"]).logits.softmax(-1)[0]
    for index, label in enumerate(["fine", "rude", "toxic"]):
        found = load_scorer(f"model:{path}#{label}").score(["a short text"])
        assert found == pytest.approx([probs[index].item()], abs=1e-6)


def test_only_registered_names_and_local_models_are_scorers():
    check_scorer_name("model:anything")
    with pytest.raises(ConfigError, match="unknown scorer 'jigsaw_tc'; did you mean 'jigsaw_tcc'"):
        check_scorer_name("jigsaw_tc")
