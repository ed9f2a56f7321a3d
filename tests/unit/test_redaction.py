import io

import pytest

from acft.redaction import end_of_log, redacted, secrets

SECRET = "hf_" + "x" * 20


@pytest.fixture(autouse=True)
def _one_secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)


def test_the_name_of_the_variable_stands_in_place_of_its_secret():
    assert redacted(f"Bearer {SECRET}!") == "Bearer [HF_TOKEN redacted]!"
    assert redacted("nothing of it") == "nothing of it"


def test_a_secret_that_holds_another_is_replaced_as_a_whole(monkeypatch):
    monkeypatch.setenv("PROXY_PASSWORD", f"{SECRET}-longer")
    assert redacted(f"{SECRET}-longer") == "[PROXY_PASSWORD redacted]"


def test_short_values_and_places_are_no_secrets():
    harmless = {"TOKENIZERS_PARALLELISM": "false", "HF_TOKEN_PATH": "/a/long/place", "LANG": SECRET}
    assert secrets(harmless) == {}
    named = {name: f"{name}-value" for name in ("A_token", "B_KEY_1", "MySecret", "DB_PASSWORD")}
    assert set(secrets(named).values()) == set(named)


@pytest.mark.parametrize("kept", range(1, len(SECRET) + 8))
def test_no_rest_of_a_secret_is_left_where_the_end_of_a_log_begins(kept):
    shown = end_of_log(io.BytesIO(f"a line\nwith {SECRET}\nend\n".encode()), kept)
    assert "xx" not in shown
    assert shown.endswith("end\n"[-kept:])


def test_the_end_of_a_log_without_secrets_is_its_last_bytes(monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert end_of_log(io.BytesIO(b"first\nlast\n"), 5) == "last\n"
    assert end_of_log(io.BytesIO(b"all"), 500) == "all"
