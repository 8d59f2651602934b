"""Heads of requests, read as the standard says, before anything is made of them. Pure.

Sanic takes a head apart by line breaks and colons and believes what comes out. Proxies read some of these heads in another way, and
then one client's body is another one's request (CWE-444). RFC 9112 and 9110 name what has to be refused; the rest passes.
"""

from __future__ import annotations

import re

HANDSHAKE = b"\x16\x03"
"""How a client begins that wants to speak encrypted (RFC 8446 5.1), and then waits."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 9112 3: one space each, and of the target's characters none that a reader could take for the line's end.
_LINE = re.compile(_TOKEN + rb" [^\x00-\x20\x7f]+ HTTP/1\.([01])\Z")
# RFC 9110 5.5: no CR, LF or NUL, nor any other control character but the tab. RFC 9112 5.1 and 5.2: nothing between name and colon,
# and no line that goes on with the one before.
_FIELD = re.compile(b"(" + _TOKEN + rb"):([^\x00-\x08\x0a-\x1f\x7f]*)\Z")
# RFC 9112 6.2 and 6.1. Python would also take other scripts' digits, and more white space than a tab and a space.
_LENGTH = re.compile(rb"[ \t]*[0-9]+[ \t]*\Z")
_CODING = re.compile(rb"[ \t]*chunked[ \t]*\Z", re.IGNORECASE)
# By their lengths: most names have another one.
_LOOKED_AT = frozenset(map(len, (b"host", b"content-length", b"transfer-encoding")))


def head_problem(head: bytes) -> str | None:
    """What is wrong with a head, which is given without the empty line at its end; or ``None``.

    Spec: RFC 9112 2.2, 3, 3.2, 5.1, 5.2, 6.1 to 6.3; RFC 9110 5.5, 5.6.2.

    >>> head_problem(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nAccept: */*") is None
    True
    >>> head_problem(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length : 5")
    'a header field is not well-formed'
    """
    line, *fields = head.split(b"\r\n")
    if (version := _LINE.match(line)) is None:
        if line.startswith(HANDSHAKE):
            return "this port is not encrypted; use http:// in place of https://"
        return "the request line is not well-formed"
    hosts = lengths = codings = 0
    for field in fields:
        if (found := _FIELD.match(field)) is None:
            return "a header field is not well-formed"
        if len(found[1]) not in _LOOKED_AT:
            continue
        name = found[1].lower()
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            lengths += 1
            if _LENGTH.match(found[2]) is None:
                return "Content-Length is not a number"
        elif name == b"transfer-encoding":
            codings += 1
            if _CODING.match(found[2]) is None:
                return "Transfer-Encoding may only be chunked"
    if lengths + codings > 1:
        return "the body's length is given more than once"
    if version[1] == b"0":
        # RFC 9112 6.1: whoever passed it on as HTTP/1.0 may not have understood it.
        return "HTTP/1.0 has no Transfer-Encoding" if codings or hosts > 1 else None
    return None if hosts == 1 else "a request needs one Host field"
