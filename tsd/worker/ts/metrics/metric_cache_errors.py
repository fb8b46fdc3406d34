"""What can be wrong with a metric, or with the file that declares metrics."""


class GeneralMetricsCacheError(Exception):
    """Anything else."""


class MetricsCacheIOError(OSError):
    """The file cannot be read."""


class MetricsCachePyYamlError(ValueError):
    """The file is not YAML."""


class MetricsCacheTypeError(TypeError):
    """An argument of another type."""


class MetricsCacheValueError(ValueError):
    """An argument that is none of those allowed, or a section that is missing."""


class MetricsCacheKeyError(KeyError):
    """No such metric, or a declaration without a part that it needs."""
