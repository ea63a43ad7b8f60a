"""Sends findings to a webhook, in the form that Slack and those like it take: {"text": ...}."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

from beam_etl.alerts.findings import Finding
from beam_etl.secrets import is_reference, redact, resolve_secret

TIMEOUT_SECONDS = 10
MOST_FINDINGS = 20


class NotSentError(Exception):
    """The receiver did not take the message. The text holds no address, because a webhook's address is a secret."""


def message_text(load_id: str, findings: Sequence[Finding]) -> str:
    """A line for the load and one for each finding, as Slack wants it escaped."""
    lines = [f"beam_etl load {load_id}: {len(findings)} findings"]
    lines += [f"{one.severity.upper()} {one.table}: {one.message}" for one in findings[:MOST_FINDINGS]]
    if len(findings) > MOST_FINDINGS:
        lines.append(f"... and {len(findings) - MOST_FINDINGS} more")
    text = redact("\n".join(lines))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def webhook_address(reference: str) -> str:
    """The address behind env:NAME, file:PATH or gcp-secret:...

    Raises:
      ValueError: it is no reference, nothing is there, or what is there is no http(s) address; quotes none of it.
    """
    if not is_reference(reference):
        raise ValueError("--webhook: give env:NAME or file:PATH that holds the address: the address itself is a secret")
    address = resolve_secret(reference, "https://hooks.example.com/...")
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        raise ValueError(f"--webhook: what {reference} holds is no http(s) address")
    return address


def send(address: str, load_id: str, findings: Sequence[Finding]) -> None:
    """Posts the findings once.

    Raises:
      NotSentError: the receiver is not there, or answered with an error.
    """
    body = json.dumps({"text": message_text(load_id, findings)}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        raise NotSentError(f"the webhook answered {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotSentError(f"the webhook cannot be reached ({type(error).__name__})") from None
