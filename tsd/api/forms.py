"""One field out of a form, for the one route whose model may be named there.

Everything else in bodies is the workers' to read."""

from __future__ import annotations

from urllib.parse import parse_qs

import multipart

from tsd.errors import BadRequest

MAX_FIELDS = 1_024


def field(content_type: str, body: bytes, name: str) -> str | None:
    """The value of a field that is no file; None where there is none, or no form."""
    media_type, options = multipart.parse_options_header(content_type)
    try:
        if media_type == "application/x-www-form-urlencoded":
            found = parse_qs(body.decode("latin-1"), max_num_fields=MAX_FIELDS)
            return found.get(name, [None])[-1]
        if media_type == "multipart/form-data":
            return _multipart_field(options.get("boundary", ""), body, name)
    except (multipart.MultipartError, ValueError) as error:
        raise BadRequest("The form cannot be read.", why=str(error)) from error
    return None


def _multipart_field(boundary: str, body: bytes, name: str) -> str | None:
    value: bytearray | None = None
    with multipart.PushMultipartParser(
        boundary, content_length=len(body), max_segment_count=MAX_FIELDS
    ) as parser:
        is_wanted = False
        for part in (part for piece in (body, b"") for part in parser.parse(piece)):
            if isinstance(part, multipart.MultipartSegment):
                is_wanted = part.name == name and part.filename is None
                if is_wanted:
                    value = bytearray()
            elif part and is_wanted and value is not None:
                value += part
    return None if value is None else value.decode(errors="replace")
