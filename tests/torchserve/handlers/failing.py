"""Fails at load in the way that the model's settings say."""

import os
import time
from typing import Any


class Failing:
    def initialize(self, context: Any) -> None:
        exec(context.model_yaml_config["how"], {"os": os, "time": time})

    def handle(self, data: Any, context: Any) -> Any:
        return ["ok"] * len(data)
