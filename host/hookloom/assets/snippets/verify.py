"""Verifies webhooks that Hookloom signs, as https://www.standardwebhooks.com describes. Needs Python 3.9 or newer, and no package."""

import base64
import hashlib
import hmac
import time

TOLERANCE_S = 300


def is_signed(secret: str, headers, body: bytes) -> bool:
    """Returns True if the request was signed with the secret ("whsec_…") within five minutes.

    headers: a mapping that finds names in lower case. body: the raw bytes, before they are parsed.
    """
    timestamp = headers.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit()) or abs(time.time() - float(timestamp)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest())
    # While the secret is rotated, there are several signatures.
    signatures = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(signature.encode(), expected) for signature in signatures)
