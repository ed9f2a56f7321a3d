"""Attacks on the server's borders: address, host, origin, token, hidden routes."""

import argparse
import stat

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from acft.errors import ConfigError
from acft.ui.options import configure, from_arguments
from acft.ui.web.guard import CONTENT_POLICY, Bind, Gate, Guard, check_bind, launch_token, read_auth

TOKEN = "s" * 40


HERE = Bind()


def client(bind: Bind = HERE, base: str = "http://127.0.0.1:7860") -> TestClient:
    async def answer(request):
        return PlainTextResponse("fine")

    routes = [Route("/{path:path}", answer, methods=["GET", "POST"])]
    guard = Middleware(Guard, gate=Gate(TOKEN), bind=bind)
    return TestClient(Starlette(routes=routes, middleware=[guard]), base, follow_redirects=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "example.org"])
def test_other_hosts_than_loopback_are_refused_unless_asked_for(host):
    with pytest.raises(ConfigError, match="--public"):
        check_bind(Bind(host=host))


def test_a_public_bind_without_log_in_is_refused():
    with pytest.raises(ConfigError, match="--auth-file"):
        check_bind(Bind(host="0.0.0.0", is_public=True))


def test_a_public_bind_with_log_in_is_allowed():
    check_bind(Bind(host="192.168.1.4", is_public=True, has_auth=True))
    check_bind(Bind(host="0.0.0.0", is_public=True, has_auth=True, hosts=("lab.example",)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_every_address_is_refused_without_a_name_that_browsers_ask_for(host):
    with pytest.raises(ConfigError, match="--allow-host NAME"):
        check_bind(Bind(host=host, is_public=True, has_auth=True))


def test_names_to_be_allowed_come_from_the_command_line():
    parser = argparse.ArgumentParser()
    configure(parser)
    given = parser.parse_args(["--allow-host", "Lab.Example", "--allow-host", "fe80::1"])
    assert from_arguments(given).bind.hosts == ("lab.example", "fe80::1")
    given = parser.parse_args(["--allow-host", "lab:8443", "--allow-host", "[FE80::1]:8443"])
    assert from_arguments(given).bind.places == [("lab", 8443), ("fe80::1", 8443)]


@pytest.mark.parametrize(
    "name",
    [
        "http://lab.example",
        "lab.example:",
        "lab:65536",
        "lab:0",
        "a:b:c",
        "lab:x",
        "[abc]",
        "",
        "a b",
        "*",
    ],
)
def test_what_is_no_host_name_cannot_be_allowed(name, capsys):
    parser = argparse.ArgumentParser()
    configure(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--allow-host", name])
    assert "is not a host name" in capsys.readouterr().err


def test_a_space_may_bind_because_nothing_can_be_changed_there():
    check_bind(Bind(host="0.0.0.0", is_demo=True, is_space=True))
    with pytest.raises(ConfigError):
        check_bind(Bind(host="0.0.0.0", is_space=True))


def test_an_unknown_host_header_is_refused():
    assert client().get("/", headers={"host": "evil.example"}).status_code == 421
    assert client().get("/", headers={"host": "127.0.0.1.evil.example"}).status_code == 421


def test_known_hosts_are_served():
    for host in ("127.0.0.1:7860", "localhost:7860", "[::1]:7860"):
        assert client().get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["[", "[::1", "]", "a]b", ""])
def test_a_host_header_that_is_no_host_is_refused(host):
    assert client().get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["lab.example", "127.0.0.1:7860"])
def test_a_page_behind_a_proxy_is_read_and_asked(host):
    behind = client(Bind(hosts=("lab.example",)))
    page = {"host": host, "origin": "https://lab.example"}
    assert behind.get("/", headers={"host": host}).status_code == 200
    assert behind.post("/x", headers=page).status_code == 200
    assert behind.post("/x", headers={**page, "origin": "https://evil.example"}).status_code == 403
    assert behind.post("/x", headers={**page, "origin": "https://["}).status_code == 403
    assert behind.get("/", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ("http://lab.example", 200), ("https://lab.example:443", 200), ("https://[fe80::1]", 200),
        ("https://lab.example:8888", 403), ("http://lab.example:443", 403),
        ("ftp://lab.example", 403),
        ("https://lab2.example:8443", 200), ("https://lab2.example", 403),
        ("https://[fe80::2]:8443", 200), ("https://[fe80::2]", 403),
    ],
)  # fmt: skip
def test_another_port_of_an_allowed_name_is_another_site(origin, code):
    hosts = ("lab.example", "lab2.example:8443", "fe80::1", "[fe80::2]:8443")
    behind = client(Bind(hosts=hosts))
    assert behind.post("/x", headers={"origin": origin}).status_code == code
    assert behind.get("/", headers={"host": "lab2.example:8443"}).status_code == 200


def test_a_page_at_a_port_of_its_own_is_asked_without_naming_the_port():
    page = {"host": "lab.example:7860", "origin": "http://lab.example:7860"}
    assert client(Bind(hosts=("lab.example",))).post("/x", headers=page).status_code == 200


@pytest.mark.parametrize(
    ("forwarded", "code"),
    [("lab.example", 200), ("evil.example, lab.example:8443", 200), ("127.0.0.1", 200), ("", 200),
     ("evil.example", 421), ("lab.example, evil.example", 421), ("lab.example,", 421)],
)  # fmt: skip
def test_a_proxy_that_asks_by_its_own_name_is_refused_what_browsers_may_not_ask_for(
    forwarded, code
):
    asked = {"host": "127.0.0.1:7860", "x-forwarded-host": forwarded}
    assert client(Bind(hosts=("lab.example",))).get("/", headers=asked).status_code == code
    assert client().get("/", headers=asked).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "null", "http://localhost:7860"]
)
def test_posts_from_other_origins_are_refused(origin):
    assert client().post("/gradio_api/run/predict", headers={"origin": origin}).status_code == 403


def test_posts_from_the_page_itself_pass():
    answer = client().post("/x", headers={"origin": "http://127.0.0.1:7860"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/proxy=http://169.254.169.254/", "/monitoring", "/gradio_api/upload",
     "/gradio_api/file=/etc/passwd", "/gradio_api/vibe-edit/", "/gradio_api/runs",
     "/gradio_api/run-history/records", "/gradio_api/process_recording"],
)  # fmt: skip
def test_routes_the_workbench_does_not_use_do_not_exist(path):
    assert client().get(path).status_code == 404


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address():
    answer = client().get(f"/run?run=a&token={TOKEN}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/run?run=a"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_token_that_came_over_tls_never_goes_without(scheme):
    answer = client(base=f"{scheme}://localhost:7860").get(f"/?token={TOKEN}")
    assert ("secure" in answer.headers["set-cookie"].lower()) == (scheme == "https")


def test_a_page_that_an_address_of_the_first_one_names_leaves_the_address():
    answer = client().get("/?page=x&select=a")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?select=a"
    assert "set-cookie" not in answer.headers
    assert client().head("/?page=x").headers["location"] == "/"
    assert client().get("/run?page=x").status_code == 200


def test_a_wrong_token_gives_no_cookie():
    answer = client().get("/?token=wrong")
    assert answer.status_code == 303
    assert "set-cookie" not in answer.headers


def test_a_demonstration_never_hands_out_a_cookie():
    answer = client(Bind(is_demo=True)).get(f"/?token={TOKEN}")
    assert "set-cookie" not in answer.headers


def test_the_redirect_cannot_lead_to_another_site():
    answer = client().get(f"http://127.0.0.1:7860//evil.example/?token={TOKEN}")
    assert answer.headers["location"].startswith("/evil.example")


@pytest.mark.parametrize(
    "header", ["", "acft_token=", "acft_token=wrong", "other=" + "s" * 40, "acft_token=" + "s" * 39]
)
def test_requests_without_the_right_cookie_may_not_change_anything(header):
    assert not Gate(TOKEN).admits(header)


@pytest.mark.parametrize("other", ["a=b", 'prefs={"a":1}', "a=b c", "no value", "x[0]=é", "=1"])
def test_the_right_cookie_admits_whatever_others_stand_beside_it(other):
    assert Gate(TOKEN).admits(f"{other}; acft_token={TOKEN}; c=d")
    assert Gate(TOKEN).admits(f"acft_token={TOKEN}; {other}")


def test_answers_forbid_foreign_content_and_framing():
    headers = client().get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"


def test_the_launch_token_is_made_once_and_is_its_owners_alone(tmp_path):
    first = launch_token(tmp_path)
    assert launch_token(tmp_path) == first
    assert stat.S_IMODE((tmp_path / ".token").stat().st_mode) == 0o600


def test_a_launch_token_readable_by_others_is_refused(tmp_path):
    launch_token(tmp_path)
    (tmp_path / ".token").chmod(0o644)
    with pytest.raises(ConfigError, match="readable by others"):
        launch_token(tmp_path)


def test_a_launch_token_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").write_text("x" * 40)
    (tmp_path / ".token").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="link"):
        launch_token(tmp_path)


def test_auth_files_need_safe_mode_and_long_passwords(tmp_path):
    file = tmp_path / "auth"
    file.write_text("ann:correct horse\n# a remark\nbob:battery staple\n")
    file.chmod(0o600)
    assert read_auth(file) == [("ann", "correct horse"), ("bob", "battery staple")]
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_auth(file)
    file.chmod(0o600)
    file.write_text("ann:short\n")
    with pytest.raises(ConfigError, match="8 or more"):
        read_auth(file)


def test_search_engines_are_told_not_to_list_a_demonstration_or_a_space():
    for bind in (Bind(is_demo=True), Bind(is_space=True), Bind(is_demo=True, is_space=True)):
        for path in ("/", "/rollouts", "/robots.txt"):
            assert client(bind).get(path).headers["X-Robots-Tag"] == "noindex"
    assert "X-Robots-Tag" not in client().get("/").headers


def test_a_space_may_be_framed_by_its_host_and_still_loads_nothing_foreign():
    headers = client(Bind(is_demo=True, is_space=True)).get("/").headers
    assert headers["Content-Security-Policy"] == CONTENT_POLICY
    assert "X-Frame-Options" not in headers
    own = client().get("/").headers
    assert own["Content-Security-Policy"] == CONTENT_POLICY + "; frame-ancestors 'none'"
    assert own["X-Frame-Options"] == "DENY"
