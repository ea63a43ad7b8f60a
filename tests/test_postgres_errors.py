import psycopg
import pytest
from psycopg import errors

from beam_etl.postgres.errors import ConnectionLostError, ErrorClass, PostgresError, classify, explain


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("40001", ErrorClass.CONFLICT),
        ("40P01", ErrorClass.CONFLICT),
        ("08006", ErrorClass.LOST),
        ("57P01", ErrorClass.LOST),
        ("57P03", ErrorClass.LOST),
        ("25006", ErrorClass.LOST),
        ("53100", ErrorClass.BUSY),
        ("53200", ErrorClass.BUSY),
        ("53300", ErrorClass.BUSY),
        ("55P03", ErrorClass.BUSY),
        ("57014", ErrorClass.BUSY),
        ("22003", ErrorClass.DATA),
        ("22021", ErrorClass.DATA),
        ("23514", ErrorClass.DATA),
        ("54000", ErrorClass.DATA),
        ("22P03", ErrorClass.OTHER),
        ("22P04", ErrorClass.OTHER),
        ("08P01", ErrorClass.OTHER),
        ("54011", ErrorClass.REFUSED),
        ("42501", ErrorClass.REFUSED),
        ("42P01", ErrorClass.REFUSED),
        ("3D000", ErrorClass.REFUSED),
        ("28P01", ErrorClass.REFUSED),
        ("XX000", ErrorClass.OTHER),
    ],
)
def test_class_of_each_code(code: str, expected: ErrorClass) -> None:
    assert classify(errors.lookup(code)("text")) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('connection failed: FATAL:  password authentication failed for user "me"', ErrorClass.REFUSED),
        ("connection failed: FATAL:  sorry, too many clients already", ErrorClass.BUSY),
        ("connection failed: FATAL:  the database system is starting up", ErrorClass.BUSY),
        ("connection failed: Connection refused", ErrorClass.LOST),
        ("server closed the connection unexpectedly", ErrorClass.LOST),
    ],
)
def test_class_of_connection_errors_without_code(text: str, expected: ErrorClass) -> None:
    assert classify(psycopg.OperationalError(text)) is expected


def test_other_exceptions_are_not_postgres() -> None:
    assert classify(ValueError("x")) is ErrorClass.OTHER
    assert classify(psycopg.InterfaceError("x")) is ErrorClass.OTHER
    assert classify(ConnectionLostError("FATAL: x")) is ErrorClass.LOST


def test_explanation_of_the_unexpected_names_code_and_place() -> None:
    error = explain(errors.lookup("XX000")("odd password=hunter2"), "db:1/lake", 0.0)
    assert type(error) is PostgresError
    assert str(error) == "PostgreSQL at db:1/lake failed with XX000: odd password=***"
