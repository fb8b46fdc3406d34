"""What a worker makes of its process, and of batches."""

from collections.abc import Callable

from tests.unit.worker.channel import FakeChannel, batch, job
from tsd.ipc.layout import NoticeKind
from tsd.worker.loader import LoadedModel
from tsd.worker.outbox import Outbox
from tsd.worker.runner import Runner, visible_devices

# Pieces leave while `handle` runs; `late` is what a thread of the handler does after it.
SENDER = """
from ts.handler_utils.utils import send_intermediate_predict_response as send
class H:
    def initialize(self, context): pass
    def handle(self, data, context):
        ids = context.request_ids
        context.late = lambda: send(["late"], ids, "", 200, context)
        send(["in time"], ids, "", 200, context)
        return ["last"]
"""


def test_a_worker_sees_its_gpus_only() -> None:
    assert visible_devices((2, 3), "") == "2,3"


def test_among_gpus_that_are_shown_the_numbers_are_places() -> None:
    assert visible_devices((0, 2), "4, GPU-5a,7") == "4,7"


def test_a_piece_that_comes_after_its_answer_is_dropped(
    load_handler: Callable[..., LoadedModel],
) -> None:
    channel, model = FakeChannel(batch(job(1))), load_handler(SENDER)
    Runner(Outbox(channel.as_socket(), memoryview(b""), 1 << 20), memoryview(b""), model).serve()
    vars(model.context)["late"]()
    sent = [(header.kind, bytes(entry.body)) for header, entry in channel.answers()]
    assert sent == [(NoticeKind.PARTS, b"in time"), (NoticeKind.ANSWERS, b"last")]
