"""Small things that handlers import."""

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
from ts.torch_handler.unit_tests.test_utils.model_dir import copy_files, download_model
from ts.utils.timeit_decorator import timeit
from ts.utils.util import (
    PredictionException,
    PT2Backend,
    check_valid_pt2_backend,
    deprecated,
    get_yaml_config,
    map_class_to_label,
)


def test_a_refusal_reads_as_torchserves() -> None:
    assert str(PredictionException("no such word", 404)) == "no such word : 404"
    assert PredictionException("m").args == ("m", 500)


def test_yaml_is_read_and_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "model-config.yaml"
    path.write_text("pt2: {compile: {enable: true}}\n")
    assert get_yaml_config(path) == {"pt2": {"compile": {"enable": True}}}
    path.write_text("!!python/object/apply:os.getcwd []\n")
    with pytest.raises(Exception, match="could not determine a constructor"):
        get_yaml_config(str(path))


def test_backends_are_known_by_their_names(caplog: pytest.LogCaptureFixture) -> None:
    assert check_valid_pt2_backend("inductor")
    assert check_valid_pt2_backend(PT2Backend.OPENVINO)
    assert caplog.text == ""
    assert not check_valid_pt2_backend("magic")
    assert "magic is not a supported backend" in caplog.text


def test_a_deprecated_function_says_what_took_its_place() -> None:
    @deprecated("1.0", replacement="new.place")
    def old(value: int) -> int:
        return value + 1

    with pytest.warns(PendingDeprecationWarning, match=r"old is deprecated in 1\.0 .* new\.place"):
        assert old(1) == 2
    assert old.__name__ == "old"


def test_a_deprecation_may_be_of_another_kind() -> None:
    @deprecated("1.0", klass=FutureWarning)
    def old() -> None: ...

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old()
    assert [warning.category for warning in caught] == [FutureWarning]


def test_the_time_of_a_call_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @timeit
    def add(a: int, b: int) -> int:
        return a + b

    with caplog.at_level(logging.INFO):
        assert add(1, b=2) == 3
    assert "add took " in caplog.text


def test_boxes_may_stand_for_probabilities() -> None:
    boxes: Any = [[[1.0, 2.0, 3.0, 4.0]]]
    assert map_class_to_label(boxes, {"7": "cat"}, [[7]]) == [{"cat": boxes[0][0]}]
    assert map_class_to_label([(0.5,)]) == [{"0": 0.5}]


def test_a_handlers_own_tests_get_their_model_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("code")
    (tmp_path / "weights.pth").write_bytes(b"weights")
    target = tmp_path / "model"
    target.mkdir()
    copy_files(tmp_path, target, {"net.py": "model.py"})
    download_model((tmp_path / "weights.pth").as_uri(), target)
    (tmp_path / "weights.pth").unlink()
    download_model((tmp_path / "weights.pth").as_uri(), target)
    assert (target / "model.py").read_text() == "code"
    assert (target / "model.pt").read_bytes() == b"weights"
