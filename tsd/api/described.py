"""A model and its workers as TorchServe describes them: names, order and texts are its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from tsd import process
from tsd.errors import NoWorkers
from tsd.log_files import FIRST_WORKER_ID
from tsd.models.description import ModelDescription
from tsd.serving.model import Model
from tsd.serving.submission import ask_for_description
from tsd.serving.worker_handle import WorkerHandle

MAX_DESCRIPTION_BYTES = 1 << 20
NO_DESCRIBER = (
    'Model "{name}" has no worker to serve describe request. '
    "Please use scale workers API to add workers."
)


def described(model: Model) -> dict[str, object]:
    """One version of a model, with its workers and its queue."""
    description, yaml = model.description, model.description.model_yaml
    waiting = len(model.batcher.waiting)
    return {
        "modelName": model.name,
        "modelVersion": model.version,
        "modelUrl": description.url,
        "runtime": description.runtime,
        "minWorkers": model.min_workers,
        "maxWorkers": model.max_workers,
        "batchSize": description.batch_size,
        "maxBatchDelay": description.max_batch_delay_ms,
        "responseTimeout": int(description.response_timeout_s),
        "startupTimeout": int(description.startup_timeout_s),
        "maxRetryTimeoutInSec": yaml.get("maxRetryTimeoutInSec", 300),
        "clientTimeoutInMills": description.client_timeout_ms,
        **_placement(model),
        "continuousBatching": description.mode == "continuous",
        "useJobTicket": description.needs_idle_worker,
        "useVenv": yaml.get("useVenv") is True,
        **_sequences(description),
        "loadedAtStartup": model.is_from_start,
        "workers": [_worker(worker) for worker in model.pool.places],
        "jobQueueStatus": {
            "remainingCapacity": max(0, description.queue_size - waiting),
            "pendingRequests": waiting,
        },
    }


def _sequences(description: ModelDescription) -> dict[str, object]:
    sequences = description.sequences
    return {
        "stateful": description.is_stateful,
        "sequenceMaxIdleMSec": round(1000 * sequences.idle_s) if sequences else 0,
        "sequenceTimeoutMSec": round(1000 * sequences.life_s) if sequences else 0,
        "maxNumSequence": sequences.max_sequences if sequences else 0,
        "maxSequenceJobQueueSize": sequences.queue_size if sequences else 0,
    }


async def customized(model: Model, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, object]:
    """What the handler says of its model: an object; anything else counts as an empty one."""
    try:
        answer = await ask_for_description(model, headers)
    except NoWorkers as error:
        raise NoWorkers(NO_DESCRIBER.format(name=model.name)) from error
    try:
        if len(answer.body) > MAX_DESCRIPTION_BYTES:
            return {"customizedMetadata": {}}
        said = json.loads(bytes(answer.body))
    except (ValueError, RecursionError):
        said = {}
    finally:
        if answer.release is not None:
            answer.release()
    if said is None:
        return {}
    return {"customizedMetadata": said if isinstance(said, dict) else {}}


def _placement(model: Model) -> dict[str, object]:
    """How a worker is divided, and where the workers are: what holds, whatever was asked for."""
    parallel, placement = model.description.parallel, model.pool.plan.placement
    ids = {"deviceIds": list(placement.device_ids)} if placement.device_ids else {}
    return {
        "parallelType": parallel.kind,
        "parallelLevel": parallel.level,
        "deviceType": "gpu" if placement.is_on_gpu else "cpu",
        **ids,
    }


def _worker(worker: WorkerHandle) -> dict[str, object]:
    gpu_id = worker.arguments.gpu_id
    return {
        "id": str(FIRST_WORKER_ID + worker.number - 1),
        "startTime": utc_text(worker.started_at),
        "status": "READY" if worker.is_serving else "UNLOADING",
        "memoryUsage": sum(map(process.rss_bytes, worker.pids)),
        "pid": worker.pid,
        "gpu": gpu_id is not None,
        "gpuUsage": "N/A" if gpu_id is None else "failed to obtained gpu usage",
    }


def utc_text(moment: datetime) -> str:
    """A moment as TorchServe prints it: milliseconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
