"""Models from the Hugging Face hub."""

from __future__ import annotations

from ts.handler_utils.optional import library

WANTED_FILES = (
    *("*.json", "*.txt", "*.model", "*.safetensors"),
    *("*.pt", "*.pth", "*.bin", "original/*"),
)


def download_model(
    model_id: str = "meta-llama/Meta-Llama-3.1-8B-Instruct",
    revision: str = "main",
    model_path: str = ".cache",
    use_auth_token: bool | str = True,  # noqa: FBT001, FBT002 (TorchServe's signature)
) -> str:
    """Fetch a model's PyTorch files into the cache `model_path`; the folder that they are in."""
    hub = library("huggingface_hub", "download_model")
    folder: str = hub.snapshot_download(
        repo_id=model_id,
        revision=revision,
        allow_patterns=list(WANTED_FILES),
        cache_dir=model_path,
        token=use_auth_token,
    )
    return folder
