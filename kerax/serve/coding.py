"""Bodies that are packed by gzip."""

import asyncio
import gzip
import zlib
from collections.abc import Mapping

from starlette.responses import Response

from kerax.serve.tensors import RequestError

_GZIP = 16 + zlib.MAX_WBITS  # with gzip's head, for zlib
_WORTH_PACKING = 8192  # bytes; fewer are sent sooner than packed


async def unpacked(headers: Mapping[str, str], body: bytes, most: int) -> bytes:
    """A body as it was before it was packed.

    Raises:
        RequestError: for more bytes than `most` (413), another coding (415), or what is no gzip (400).
    """
    coding = headers.get("content-encoding", "identity").lower()
    if coding == "identity":
        return body
    if coding != "gzip":
        raise RequestError(415, f"a body with content-encoding {coding!r} is not taken. Expected gzip, or none.")
    # Beside the loop, which goes on reading other requests.
    return await asyncio.to_thread(_unzipped, body, most)


def _unzipped(body: bytes, most: int) -> bytes:
    parts, left = [], most + 1  # a few bytes may become gigabytes: no more than these are made
    while body:
        stream = zlib.decompressobj(_GZIP)
        try:
            parts.append(stream.decompress(body, left))
        except zlib.error as error:
            raise RequestError(400, f"the body is not gzip: {error}") from None
        left -= len(parts[-1])
        if left <= 0:
            raise RequestError(413, f"the body has more than {most} bytes, unpacked. At most these are taken.")
        if not stream.eof:
            raise RequestError(400, "the body is not gzip: it is cut off.")
        body = stream.unused_data  # files of gzip may follow each other
    return b"".join(parts)


async def packed(headers: Mapping[str, str], response: Response) -> Response:
    """An answer packed, if it is long and text, and its client takes it so."""
    # Numbers as bytes hardly become fewer.
    if len(response.body) < _WORTH_PACKING or response.media_type != "application/json" or not _takes_gzip(headers):
        return response
    body = await asyncio.to_thread(gzip.compress, bytes(response.body), 1, mtime=0)
    added = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    kept = {name: value for name, value in response.headers.items() if name != "content-length"}
    return Response(body, response.status_code, kept | added)


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    for coding in headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = coding.replace(" ", "").partition(";")
        if name == "gzip":
            return weight not in ("q=0", "q=0.0")
    return False
