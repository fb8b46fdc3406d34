"""The configuration: which source wins, what is refused and how, and that it reads itself back."""

from __future__ import annotations

import re
import tempfile
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsd import config
from tsd.addresses import GRPC_DOORS, HTTP_DOORS
from tsd.config import Loaded
from tsd.errors import ConfigError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Places:
    config_file: Path
    runtime_dir: Path = Path("/run/here")
    state_dir: Path = Path("/var/here")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tsd.toml"


def load(file: Path, environment: dict[str, str] | None = None, **arguments: object) -> Loaded:
    return config.load(arguments, environment or {}, Places(file))


def refusal(file: Path, environment: dict[str, str] | None = None, **arguments: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, environment, **arguments)
    return f"{caught.value}\n{caught.value.why}\n{caught.value.fix}"


def drop_in(file: Path, name: str, text: str) -> None:
    folder = file.with_name(file.name + ".d")
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def test_without_any_source_all_is_default(file: Path) -> None:
    loaded = load(file)
    assert loaded.config.doors.http == "127.0.0.1:8080"
    assert loaded.config.runtime_dir == Path("/run/here")
    assert set(loaded.origins.values()) == {"default"}
    assert set(loaded.origins) == set(config.SETTINGS)


def test_each_source_wins_over_the_weaker_ones(file: Path) -> None:
    file.write_text('[log]\nlevel = "error"\n')
    assert load(file).origins["log.level"] == str(file)
    drop_in(file, "20-b.toml", '[log]\nlevel = "debug"\n')
    drop_in(file, "10-a.toml", '[log]\nlevel = "critical"\n')
    assert load(file).origins["log.level"] == "tsd.toml.d/20-b.toml"
    assert load(file).config.log.level == "debug"
    environment = {"TSD_LOG_LEVEL": "warning"}
    assert load(file, environment).origins["log.level"] == "environment TSD_LOG_LEVEL"
    loaded = load(file, environment, log_level="info")
    assert loaded.origins["log.level"] == "command line --log-level"
    assert loaded.config.log.level == "info"


def test_an_option_has_a_short_name_in_the_environment_which_wins(file: Path) -> None:
    both = {"TSD_HTTP": "127.0.0.1:1", "TSD_DOORS_HTTP": "127.0.0.1:2"}
    assert load(file, both).config.doors.http == "127.0.0.1:1"
    del both["TSD_HTTP"]
    assert load(file, both).config.doors.http == "127.0.0.1:2"


def test_an_empty_variable_and_an_absent_option_say_nothing(file: Path) -> None:
    loaded = load(file, {"TSD_LOG_LEVEL": ""}, http=None, check_config=True)
    assert set(loaded.origins.values()) == {"default"}


def test_no_two_settings_share_a_variable() -> None:
    names = ["TSD_" + key.upper().replace(".", "_") for key in config.SETTINGS]
    assert len(set(names)) == len(names)
    assert {config.VARIABLES[name] for name in names} == set(config.SETTINGS)
    assert not config.VARIABLES.keys() & config.OTHER_VARIABLES


def test_variables_are_read_as_numbers(file: Path) -> None:
    loaded = load(file, {"TSD_HTTP_MAX_HEADERS": "7", "TSD_SERVING_DRAIN_S": "2.5"})
    assert loaded.config.http.max_headers == 7
    assert loaded.config.serving.drain_s == 2.5


def test_paths_become_absolute(file: Path) -> None:
    loaded = load(file, model_store="models")
    assert loaded.config.model_store == Path("models").absolute()


def test_the_file_may_be_named_and_must_then_exist(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("models = 'all'\n")
    assert load(file, {"TSD_CONFIG": str(other)}).config.models == "all"
    assert load(file, config=str(other)).origins["models"] == str(other)
    assert "cannot be read" in refusal(file, config=str(tmp_path / "absent.toml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[http]\nmax_heders = 3", ["unknown setting http.max_heders", "did you mean", "max_head"]),
        ("[htpp]\nbacklog = 3", ["htpp.backlog", "http.backlog"]),
        ("[zzz]", ["unknown setting zzz", "--print-config"]),
        ("http = 3", ["unknown setting http"]),
        ("[log.level]\na = 1", ["unknown setting log.level.a"]),
        ("[http]\nbacklog = 'x'", ["http.backlog", "'x'", "int", "default is 4096"]),
        ("[http]\nbacklog = '3'", ["http.backlog", "int"]),
        ("[http]\nbacklog = true", ["http.backlog", "True"]),
        ("[http]\nbacklog = 0", ["http.backlog cannot be 0", ">= 1"]),
        ("[http]\nkeep_alive_s = nan", ["http.keep_alive_s", "nan"]),
        ("[http]\nkeep_alive_s = inf", ["http.keep_alive_s", "inf"]),
        ("[log]\nlevel = 'inf'", ["log.level", "debug, info, warning"]),
        ('models = "\\u001b[2J"', ["models", "control characters"]),
        ("model_store = ''", ["model_store", "not a path"]),
        ("model_store = 3", ["model_store", "not a path"]),
        ("[http\n", ["not TOML", "line 1"]),
        ("[serving]\ndefault_workers = 65", ["default_workers = 65", "max_workers = 64"]),
        ("[serving]\narena_bytes = 4096", ["http.max_request_bytes", "arena_bytes = 4096"]),
        (f"runtime_dir = '/{'x' * 94}'", ["runtime_dir", "94 bytes"]),
    ],
)
def test_what_is_wrong_is_named_with_its_file(file: Path, text: str, expected: list[str]) -> None:
    file.write_text(text)
    message = refusal(file)
    assert str(file) in message
    assert [part for part in expected if part not in message] == []


def test_a_known_section_may_be_empty(file: Path) -> None:
    file.write_text("[http]\n")
    assert set(load(file).origins.values()) == {"default"}


def test_a_file_that_is_not_utf_8_is_refused(file: Path) -> None:
    file.write_bytes(b"models = '\xff'")
    assert "not TOML" in refusal(file)


def test_an_unknown_variable_is_refused_with_a_suggestion(file: Path) -> None:
    assert "TSD_HTTP" in refusal(file, {"TSD_HTTPP": "none"})
    assert load(file, {"TSD_SOCKET": "/x", "OTHER": "y"}).config == load(file).config


@pytest.mark.parametrize("text", ["example.org:80", "*:80", ":80", "80", "", "127.0.0.1"])
@pytest.mark.parametrize("door", ["http", "management", "metrics", "grpc", "grpc_management"])
def test_a_door_that_is_no_address_is_refused(file: Path, door: str, text: str) -> None:
    arguments: dict[str, Any] = {door: text}
    option = "--" + door.replace("_", "-")
    message = refusal(file, **arguments)
    assert f"command line {option}: doors.{door} cannot be {text!r}" in message


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::]:80", "192.168.1.4:80"])
@pytest.mark.parametrize("door", ["http", "management", "metrics", "grpc", "grpc_management"])
def test_a_door_opens_to_this_machine_only(file: Path, door: str, text: str) -> None:
    arguments: dict[str, Any] = {door: text}
    message = refusal(file, **arguments)
    assert f"doors.{door} cannot be {text!r}" in message
    assert "doors.remote is no" in message
    assert "SSH tunnel" in message


def test_others_may_come_with_a_token_where_both_are_asked_for(file: Path) -> None:
    file.write_text('[doors]\nhttp = "0.0.0.0:80"\nremote = "with-token"\n')
    assert "access.tokens is false" in refusal(file)
    drop_in(file, "a.toml", "[access]\ntokens = true\n")
    loaded = load(file)
    assert loaded.config.doors.http == "0.0.0.0:80"
    assert loaded.warnings == ()


def test_others_may_come_without_a_token_and_that_is_said(file: Path) -> None:
    file.write_text('[doors]\nhttp = "0.0.0.0:80"\nremote = "anyone"\n')
    (warning,) = load(file).warnings
    assert "doors.http is open to other machines without a token" in warning


def test_a_variable_may_be_a_list(file: Path) -> None:
    loaded = load(file, {"TSD_ARCHIVES_ALLOWED_URLS": "https://a/.*, file://.*"})
    assert loaded.config.archives.allowed_urls == ("https://a/.*", "file://.*")


def test_a_torchserve_file_is_weaker_than_all_but_the_defaults(file: Path, tmp_path: Path) -> None:
    properties = tmp_path / "config.properties"
    properties.write_text("job_queue_size=7\nmax_request_size=5000\nvmargs=-Xmx1g\n")
    loaded = load(file, {"TSD_HTTP_MAX_REQUEST_BYTES": "6000"}, ts_config=properties)
    assert loaded.config.serving.queue_size == 7
    assert loaded.origins["serving.queue_size"] == "config.properties job_queue_size"
    assert loaded.config.http.max_request_bytes == 6000
    assert loaded.config.access.tokens
    assert loaded.origins["access.tokens"] == "TorchServe's default"
    (warning,) = loaded.warnings
    assert "vmargs has no meaning here: there is no Java virtual machine" in warning
    file.write_text("[serving]\nqueue_size = 9\n")
    assert load(file, ts_config=properties).config.serving.queue_size == 9
    assert load(file, {"TSD_TS_CONFIG": str(properties)}).config.doors.management.endswith(":8081")


@pytest.mark.parametrize(("flag", "remote"), [("false", "with-token"), ("true", "anyone")])
def test_a_torchserve_file_may_open_its_doors(
    file: Path, tmp_path: Path, flag: str, remote: str
) -> None:
    properties = tmp_path / "config.properties"
    properties.write_text(
        f"inference_address=http://0.0.0.0:8080\ndisable_token_authorization={flag}\n"
    )
    loaded = load(file, ts_config=properties)
    assert loaded.config.doors.remote == remote
    assert len(loaded.warnings) == (remote == "anyone")
    # Who switches the tokens off elsewhere has opened it to anyone, too.
    assert load(file, {"TSD_ACCESS_TOKENS": "false"}, ts_config=properties).warnings
    # What the operator has said stays.
    assert "doors.remote is no" in refusal(file, {"TSD_DOORS_REMOTE": "no"}, ts_config=properties)


def test_what_is_wrong_in_a_torchserve_file_is_named_by_its_key(file: Path, tmp_path: Path) -> None:
    properties = tmp_path / "config.properties"
    properties.write_text("job_queue_size=0\n")
    message = refusal(file, ts_config=properties)
    assert "config.properties job_queue_size: serving.queue_size cannot be 0" in message


@pytest.mark.parametrize(
    "line",
    ["[serving]\nhidden_variables = '('", "[archives]\nallowed_urls = ['https://a/.*', '[']"],
)
def test_a_broken_regular_expression_is_refused_at_the_start(file: Path, line: str) -> None:
    file.write_text(line)
    assert "is no regular expression" in refusal(file)


def some(setting: config.Setting) -> st.SearchStrategy[Any]:
    """Values that the setting accepts."""
    if setting.key in (*HTTP_DOORS, *GRPC_DOORS):
        return st.integers(0, 65_535).map("[::1]:{}".format)
    if setting.key == "serving.hidden_variables":
        return WORDS.map(re.escape)
    choices = typing.get_args(typing.get_args(setting.type)[0])
    if choices and isinstance(setting.default, str):
        return st.sampled_from(choices)
    return BY_TYPE[type(setting.default)]


# What `str.isprintable` lets through, without trying what it does not.
PRINTABLE = st.characters(exclude_categories=["C", "Z"]) | st.just(" ")
WORDS = st.text(PRINTABLE)
NAMES = st.text(PRINTABLE, min_size=1, max_size=20).filter(lambda text: text != ".")
BY_TYPE: dict[type, st.SearchStrategy[Any]] = {
    str: WORDS,
    int: st.integers(256, 10_000),
    float: st.floats(0, 86_400, exclude_min=True),
    type(Path()): NAMES.map(Path),
    type(None): NAMES.map(Path),
    bool: st.booleans(),
    # Regular expressions.
    tuple: st.lists(WORDS.map(re.escape)).map(tuple),
}
FREE = {
    key: some(setting)
    for key, setting in config.SETTINGS.items()
    if key not in {*config.NOT_ABOVE, *config.NOT_ABOVE.values()}
}


# So many settings take a busy machine long to make up.
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional=FREE))
def test_what_is_rendered_is_read_back(chosen: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tsd.toml"
        file.write_text(lines_of(chosen), "utf-8")
        first = load(file)
        assert {key for key, origin in first.origins.items() if origin != "default"} == set(chosen)
        file.write_text(config.render(first), "utf-8")
        again = load(file)
        assert again.config == first.config
        assert config.changed(first.config, again.config) == []


def lines_of(chosen: dict[str, Any]) -> str:
    """TOML with dotted keys and every character escaped."""
    return "\n".join(f"{key} = {toml(value)}" for key, value in chosen.items())


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, int | float):
        return str(value)
    return '"' + "".join(f"\\U{ord(c):08x}" for c in str(value)) + '"'


def test_rendered_settings_tell_meaning_and_origin(file: Path) -> None:
    text = config.render(load(file, http="none"))
    assert '# Where predictions are asked for. From: command line --http\nhttp = "none"' in text
    assert "# model_store =\n" in text


def test_changes_are_told_by_key(file: Path) -> None:
    old = load(file).config
    new = load(file, http="none", log_level="debug").config
    assert config.changed(old, new) == ["doors.http", "log.level"]
    assert set(config.RESTART_KEYS) <= set(config.SETTINGS)


def test_every_setting_is_bounded_and_explained() -> None:
    for setting in config.SETTINGS.values():
        assert setting.meaning.endswith("."), setting.key
        if isinstance(setting.default, int | float) and not isinstance(setting.default, bool):
            # Of a number or a word, the number's.
            kind = next(iter(typing.get_args(setting.type.__origin__)), setting.type)
            bounds = kind.__metadata__[0]
            assert (bounds.ge is not None) or (bounds.gt is not None), setting.key
            assert bounds.le is not None, setting.key


def test_the_manual_page_names_every_setting_with_its_default() -> None:
    page = (ROOT / "man" / "tsd.toml.5").read_text()
    found: dict[str, str] = {}
    restart: set[str] = set()
    section = key = ""
    for line in page.splitlines():
        if heading := re.fullmatch(r"\.Ss Section (\w+)", line):
            section = heading[1] + "."
        elif entry := re.fullmatch(r"\.It Va (\w+) = (.+)", line):
            key = section + entry[1]
            found[key] = entry[2].replace("\\(dq", '"')
        elif line == ".Em restart" and key:
            restart.add(key)
    expected = {key: shown(setting.default) for key, setting in config.SETTINGS.items()}
    assert found == expected
    assert restart == set(config.RESTART_KEYS)


def shown(default: object) -> str:
    """A default as the manual page spells it."""
    if isinstance(default, bool):
        return str(default).lower()
    if default == ():
        return "[]"
    if default is None:
        return "unset"
    return f'"{default}"' if isinstance(default, str | Path) else str(default)
