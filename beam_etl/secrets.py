"""Secrets: references to them, resolved where they are used, and texts in which none is shown."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

REFERENCE_KINDS = ("env", "file", "gcp-secret")

_PASSWORD_IN_URI = re.compile(r"([a-z][a-z0-9+.-]*://[^:@/\s]*):[^@\s]*@", re.IGNORECASE)
_PASSWORD_AS_KEY = re.compile(r"\b((?:ssl)?password)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\"]+)", re.IGNORECASE)
_GCP_NAME = re.compile(
    r"(?:projects/)?(?P<project>[^/]+)/(?:secrets/)?(?P<secret>[^/]+)(?:/versions/(?P<version>[^/]+))?"
)
# A shorter one would be found inside words that are no secret, and these words stand in messages anyway.
_SHORTEST_REMEMBERED = 5
_NO_SECRETS = frozenset({"postgres", "postgresql", "password", "public", "beam_etl"})

_lock = threading.Lock()
_remembered: set[str] = set()


def is_reference(text: str) -> bool:
    """Whether a text says where a secret is, instead of being one."""
    return text.partition(":")[0] in REFERENCE_KINDS


def resolve_secret(reference: str, example: str) -> str:
    """The secret that a reference stands for. Resolve it anew at each use: secrets rotate.

    Args:
      reference: "env:NAME" (an environment variable), "file:PATH" (a file holding nothing else), or
        "gcp-secret:PROJECT/SECRET" (its latest version) or "gcp-secret:projects/P/secrets/S/versions/V".
      example: what the secret looks like, for messages.

    Raises:
      ValueError: nothing there; says what to do and never quotes the secret.
    """
    kind, _, place = reference.partition(":")
    if kind == "env":
        value = os.environ.get(place, "").strip()
        if not value:
            raise ValueError(
                f"the environment variable {place!r} of {reference!r} is unset or empty; set it to {example}"
            )
    elif kind == "file":
        value = _read_file(place, reference, example)
    elif kind == "gcp-secret":
        value = _read_gcp_secret(place, reference, example)
    else:
        raise ValueError(f"not a reference to a secret; write one of {', '.join(f'{k}:...' for k in REFERENCE_KINDS)}")
    remember_secret(value)
    return value


def remember_secret(secret: str) -> None:
    """From now on no text that passes through `redact` in this process shows it."""
    if len(secret) >= _SHORTEST_REMEMBERED and secret not in _NO_SECRETS:
        with _lock:
            _remembered.update((secret, quote(secret, safe="")))


def redact(text: str) -> str:
    """The text with every password in a URI or a key=value connection string, and each secret that was resolved, as ***."""
    text = _PASSWORD_AS_KEY.sub(r"\1\2***", _PASSWORD_IN_URI.sub(r"\1:***@", text))
    for secret in sorted(_remembered, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def holds_password(connection: str) -> bool:
    """Whether a connection string carries its password in the open."""
    return bool(_PASSWORD_IN_URI.search(connection) or _PASSWORD_AS_KEY.search(connection))


def _read_file(path: str, reference: str, example: str) -> str:
    try:
        value = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(
            f"cannot read the file of {reference!r} ({error.strerror}); create it, readable by this user, with {example}"
        ) from error
    except UnicodeDecodeError:
        raise ValueError(f"the file of {reference!r} is not text; write into it {example}") from None
    if not value:
        raise ValueError(f"the file of {reference!r} is empty; write into it {example}")
    return value


def _read_gcp_secret(place: str, reference: str, example: str) -> str:
    name = _GCP_NAME.fullmatch(place)
    if name is None:
        raise ValueError(
            f"{reference!r} names no secret; write gcp-secret:PROJECT/SECRET, "
            "or gcp-secret:projects/PROJECT/secrets/SECRET/versions/VERSION"
        )
    path = f"projects/{name['project']}/secrets/{name['secret']}/versions/{name['version'] or 'latest'}"
    # Imported here: seconds, for what few loads use.
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    try:
        value = _gcp_client().access_secret_version(name=path, timeout=30).payload.data.decode().strip()
    except (GoogleAPICallError, GoogleAuthError, UnicodeDecodeError) as error:
        told = getattr(error, "message", "") or type(error).__name__
        raise ValueError(
            f"cannot read the secret of {reference!r} ({told}); create it, and grant the account that runs this "
            "roles/secretmanager.secretAccessor on it"
        ) from None
    if not value:
        raise ValueError(f"the secret of {reference!r} is empty; add a version that holds {example}")
    return str(value)


def _gcp_client() -> Any:
    from google.cloud.secretmanager import SecretManagerServiceClient

    return SecretManagerServiceClient()
