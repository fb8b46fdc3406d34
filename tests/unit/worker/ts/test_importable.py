"""What unmodified handlers import is there, under the names that they use."""

import importlib

import pytest

NAMES = {
    "ts": "__version__",
    "ts.version": "__version__",
    "ts.context": "Context RequestProcessor",
    "ts.service": "Service emit_metrics PREDICTION_METRIC PredictionException",
    "ts.utils.util": (
        "PredictionException list_classes_from_module load_label_mapping map_class_to_label "
        "get_yaml_config check_valid_pt2_backend PT2Backend CLEANUP_REGEX deprecated"
    ),
    "ts.utils.timeit_decorator": "timeit",
    "ts.utils.hf_utils": "download_model",
    "ts.torch_handler.base_handler": (
        "BaseHandler PROFILER_AVAILABLE PT2_AVAILABLE ONNX_AVAILABLE XLA_AVAILABLE "
        "IPEX_AVAILABLE setup_ort_session"
    ),
    "ts.torch_handler.vision_handler": "VisionHandler",
    "ts.torch_handler.image_classifier": "ImageClassifier",
    "ts.torch_handler.image_segmenter": "ImageSegmenter",
    "ts.torch_handler.object_detector": "ObjectDetector",
    "ts.torch_handler.text_handler": "TextHandler",
    "ts.torch_handler.text_classifier": "TextClassifier",
    "ts.torch_handler.contractions": "CONTRACTION_MAP",
    "ts.torch_handler.dali_handler": "DALIHandler",
    "ts.torch_handler.dali_image_classifier": "DALIImageClassifier",
    "ts.torch_handler.vllm_handler": "VLLMHandler",
    "ts.torch_handler.trt_llm_handler": "TRTLLMHandler",
    "ts.torch_handler.densenet_handler": "DenseNetHandler",
    "ts.torch_handler.request_envelope.base": "BaseEnvelope",
    "ts.torch_handler.request_envelope.body": "BodyEnvelope",
    "ts.torch_handler.request_envelope.json": "JSONEnvelope",
    "ts.torch_handler.request_envelope.kserve": "KServeEnvelope",
    "ts.torch_handler.request_envelope.kservev2": "KServev2Envelope",
    "ts.torch_handler.distributed.base_pippy_handler": "BasePippyHandler",
    "ts.torch_handler.distributed.base_deepspeed_handler": "BaseDeepSpeedHandler",
    "ts.torch_handler.unit_tests.test_utils.mock_context": "MockContext",
    "ts.torch_handler.unit_tests.test_utils.model_dir": "copy_files download_model",
    "ts.handler_utils.utils": "import_class send_intermediate_predict_response",
    "ts.handler_utils.micro_batching": "MicroBatching",
    "ts.handler_utils.timer": "timed",
    "ts.handler_utils.text_utils": "ngrams_iterator get_tokenizer",
    "ts.handler_utils.distributed.pt_pippy": "initialize_rpc_workers get_pipeline_driver",
    "ts.handler_utils.distributed.deepspeed": "get_ds_engine create_checkpoints_json",
    "ts.handler_utils.preprocess.dali": "get_dali_pipeline",
    "ts.model_loader": "ModelLoaderFactory TsModelLoader ModelLoader",
    "ts.model_service_worker": "TorchModelServiceWorker",
    "ts.model_service.model_service": "ModelService SingleNodeService",
    "ts.async_service": "AsyncService",
    "ts.llm_launcher": "main",
}

# The handlers that an archive may name instead of a file: each module has one class.
DEFAULT_HANDLERS = [
    *("base_handler", "image_classifier", "image_segmenter", "object_detector"),
    *("text_classifier", "dali_image_classifier", "vllm_handler", "trt_llm_handler"),
    *("densenet_handler", "tensor_handler"),
]


@pytest.mark.parametrize("module", NAMES)
def test_a_module_has_the_names_that_handlers_import(module: str) -> None:
    loaded = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(loaded, name)] == []


@pytest.mark.parametrize("name", DEFAULT_HANDLERS)
def test_a_default_handler_is_the_only_class_of_its_module(name: str) -> None:
    from ts.utils.util import list_classes_from_module

    module = importlib.import_module(f"ts.torch_handler.{name}")
    assert len(list_classes_from_module(module)) == 1
    assert not hasattr(module, "handle")


def test_a_library_that_is_missing_is_named_with_what_needs_it() -> None:
    from ts.handler_utils.optional import library

    with pytest.raises(ImportError, match="vllm_handler needs not_installed, which this runtime"):
        library("not_installed.part", "vllm_handler")
    assert library("json", "a test") is importlib.import_module("json")
