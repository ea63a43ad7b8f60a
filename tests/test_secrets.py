"""Secrets are read where they are, anew each time, and shown by no text."""

from concurrent import futures

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import secretmanager
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceGrpcTransport

from beam_etl import secrets
from beam_etl.postgres.dsn import resolve_dsn
from beam_etl.secrets import holds_password, is_reference, redact, remember_secret, resolve_secret

DSN = "postgresql://me:hunter2@db/lake"
NAME = "projects/p/secrets/dsn/versions/"


@pytest.fixture
def secret_manager(monkeypatch):
    """The real client, speaking to a server on the loopback interface; the dictionary is what that server holds."""
    held = {}

    def access(request, context):
        if request.name not in held:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Secret [{request.name}] not found")
        return secretmanager.AccessSecretVersionResponse(
            name=request.name, payload={"data": held[request.name].encode()}
        )

    handler = grpc.unary_unary_rpc_method_handler(
        access,
        request_deserializer=secretmanager.AccessSecretVersionRequest.deserialize,
        response_serializer=secretmanager.AccessSecretVersionResponse.serialize,
    )
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service = "google.cloud.secretmanager.v1.SecretManagerService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"AccessSecretVersion": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def client():
        transport = SecretManagerServiceGrpcTransport(channel=channel, credentials=AnonymousCredentials())
        return secretmanager.SecretManagerServiceClient(transport=transport)

    monkeypatch.setattr(secrets, "_gcp_client", client)
    yield held
    channel.close()
    server.stop(None)


def test_a_secret_of_the_cloud_is_read_anew_each_time(secret_manager):
    secret_manager[f"{NAME}latest"] = f"{DSN}\n"
    secret_manager[f"{NAME}3"] = "host=old"
    assert resolve_dsn("gcp-secret:p/dsn") == DSN
    assert resolve_dsn("gcp-secret:projects/p/secrets/dsn/versions/3") == "host=old"
    secret_manager[f"{NAME}latest"] = "host=new"
    assert resolve_dsn("gcp-secret:p/dsn") == "host=new"


def test_a_secret_that_the_cloud_lacks_is_named_with_the_remedy(secret_manager):
    with pytest.raises(ValueError, match=r"'gcp-secret:p/none' \(Secret .* not found\); create it, and grant"):
        resolve_secret("gcp-secret:p/none", "x")
    secret_manager[f"{NAME}latest"] = " "
    with pytest.raises(ValueError, match="is empty; add a version that holds x"):
        resolve_secret("gcp-secret:p/dsn", "x")


def test_what_is_no_reference_is_not_repeated():
    assert not is_reference(DSN)
    with pytest.raises(ValueError, match="not a reference to a secret; write one of env:") as told:
        resolve_secret("hunter2", "x")
    assert "hunter2" not in str(told.value)


def test_a_file_of_bytes_is_no_secret(tmp_path):
    (tmp_path / "dsn").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not text; write into it x"):
        resolve_secret(f"file:{tmp_path}/dsn", "x")


def test_a_password_once_resolved_is_shown_nowhere(monkeypatch):
    monkeypatch.setenv("PG_DSN", "postgresql://me:s%40crificed@db/lake")
    resolve_dsn("env:PG_DSN")
    assert redact("wrong: s@crificed, or s%40crificed") == "wrong: ***, or ***"


def test_words_that_messages_are_made_of_stay():
    for word in ("postgres", "abc", ""):
        remember_secret(word)
    assert redact("--postgres: abc") == "--postgres: abc"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (DSN, True),
        ("host=h password = x", True),
        ("postgresql://h/d?password=x", True),
        ("postgresql://me@h/d", False),
        ("host=h passfile=/x", False),
        ("env:PG", False),
        ("embedded:/a:b@c", False),
    ],
)
def test_where_a_password_stands_in_the_open(text, holds):
    assert holds_password(text) is holds
