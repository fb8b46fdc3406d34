"""Prints the machine's load once: `python -m ts.metrics.metric_collector --gpu N`."""

import argparse
import logging
import sys

from ts.metrics import system_metrics
from ts.metrics.process_memory_metric import check_process_mem_usage


def main() -> None:
    """The load, then the memory of the processes that standard input names."""
    parser = argparse.ArgumentParser(description="print the machine's load")
    parser.add_argument("--gpu", type=int, default=0, help="number of GPUs")
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    system_metrics.collect_all(system_metrics, parser.parse_args().gpu)
    check_process_mem_usage(sys.stdin)


if __name__ == "__main__":
    main()
