"""Entry points that are functions."""

from typing import Any


def handle(data: Any, context: Any) -> Any:
    if data is None:
        return None
    told = {name: str(value) for name, value in context.system_properties.items()}
    told.pop("model_dir")
    return [
        {"properties": told, "manifest": context.manifest, "yaml": context.model_yaml_config}
    ] * len(data)


def loud(data: Any, context: Any) -> Any:
    return None if data is None else ["LOUD"] * len(data)
