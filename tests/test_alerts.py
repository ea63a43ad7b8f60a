"""Findings of a load, and a webhook that gets them: a real one, on the loopback."""

import http.server
import json
import threading

import pytest

from beam_etl.alerts.findings import Finding, Thresholds, evaluate
from beam_etl.alerts.webhook import MOST_FINDINGS, NotSentError, message_text, send, webhook_address
from tests.landed import run


def report(load_id="z-000", created="2026-02-01", **changes):
    entry = {"records_in": 100, "rows": 98, "rejects": 2, "rejected_files": 0, "files": 1, "bytes": 200_000_000}
    entry |= {"schema": [], "balanced": True, "published": True, "reasons": [], "seconds": 1.0, **changes}
    return {"load_id": load_id, "created": created, "published": entry["published"], "tables": {"t": entry}}


def codes(findings):
    return [(finding.severity, finding.code) for finding in findings]


def test_a_load_at_the_threshold_is_no_finding():
    assert evaluate(report(), []) == []
    assert evaluate(report(records_in=0, rows=0, rejects=0), []) == []


def test_more_rejects_than_the_threshold_are_critical():
    [finding] = evaluate(report(rejects=3, rows=97), [])
    assert finding == Finding("critical", "t", "rejects", "3 of 100 records were rejected (3.00%, threshold 2.00%)")
    assert evaluate(report(rejects=3, rows=97), [], Thresholds(reject_ratio=0.03)) == []


def test_what_is_not_published_is_critical_and_comes_first():
    found = evaluate(report(published=False, reasons=["why"], rejected_files=1), [])
    assert codes(found) == [("critical", "not_published"), ("warning", "rejected_files")]
    assert found[0].message == "why"
    assert codes(evaluate(report(published=False, balanced=False), [])) == [("critical", "not_balanced")]


@pytest.mark.parametrize(
    ("seconds", "changes", "slow"),
    [(2.1, {}, True), (2.0, {}, False), (2.1, {"bytes": 1000}, False), (0.0, {}, False)],
)
def test_a_rate_far_below_the_usual_one_is_a_warning(seconds, changes, slow):
    earlier = [report(f"a-{n}", f"2026-01-0{n}") for n in (1, 2, 3)]
    found = evaluate(report(seconds=seconds, **changes), earlier)
    assert codes(found) == ([("warning", "slow")] if slow else [])


def test_loads_that_are_few_later_small_or_unpublished_are_no_baseline():
    slow = report(seconds=100.0)
    later = [report(f"b-{n}", f"2026-03-0{n}") for n in (1, 2, 3)]
    small = [report(f"c-{n}", f"2026-01-0{n}", bytes=1000) for n in (1, 2, 3)]
    failed = [report(f"d-{n}", f"2026-01-0{n}", published=False) for n in (1, 2, 3)]
    assert evaluate(slow, [*small, *failed, report("e", "2026-01-01"), report("f", "2026-01-02"), slow, *later]) == []


@pytest.mark.parametrize("name", ["reject_ratio", "slow_ratio"])
def test_a_threshold_is_a_share(name):
    with pytest.raises(ValueError, match=f"{name}=2 must be from 0 to 1"):
        Thresholds(**{name: 2})


def test_the_message_is_escaped_bounded_and_shows_no_password():
    finding = Finding("critical", "<a&b>", "rejects", "postgresql://u:hunter2@db/x")
    text = message_text("l", [finding] * (MOST_FINDINGS + 2))
    assert "CRITICAL &lt;a&amp;b&gt;: postgresql://u:***@db/x" in text
    assert text.endswith("... and 2 more") and len(text.splitlines()) == MOST_FINDINGS + 2


@pytest.fixture
def receiver():
    """The address of a webhook, what it got, and the status that it answers with."""
    got, answer = [], {"status": 200}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answer["status"])
            self.end_headers()

        def log_message(self, *arguments): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret-path", got, answer
    server.shutdown()
    server.server_close()


def write(lake, *reports):
    for one in reports:
        directory = lake / "_beam_etl/loads" / one["load_id"]
        directory.mkdir(parents=True)
        (directory / "report.json").write_text(json.dumps(one))


def test_the_command_tells_the_webhook_and_the_exit_code(tmp_path, monkeypatch, receiver):
    address, got, answer = receiver
    monkeypatch.setenv("HOOK", address)
    write(tmp_path, report("a-000", "2026-01-01"), report(rejects=3, rows=97))
    command = ("alerts", "last", "--output", tmp_path, "--webhook=env:HOOK")
    told = run(*command)
    assert told.code == 3 and told.out.startswith("critical t: 3 of 100 records")
    assert got == [{"text": message_text("z-000", evaluate(report(rejects=3, rows=97), []))}]
    fine = run("alerts", "a-000", "--output", tmp_path, "--webhook=env:HOOK")
    assert (fine.code, fine.out, len(got)) == (0, "nothing to tell of load a-000\n", 1)
    assert run(*command, "--reject_ratio=0.5").code == 0
    answer["status"] = 500
    refused = run(*command)
    assert refused.code == 4 and "the webhook answered 500" in refused.err and "secret-path" not in refused.err


def test_a_webhook_that_is_not_there_is_a_sentence_without_its_address(receiver):
    with pytest.raises(NotSentError, match=r"^the webhook cannot be reached \(URLError\)$"):
        send("http://127.0.0.1:1/secret", "l", [])


def test_bad_usage_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK", "no address")
    with pytest.raises(ValueError, match="what env:HOOK holds is no http"):
        webhook_address("env:HOOK")
    open_address = run("alerts", "last", "--output", tmp_path, "--webhook=https://hooks.example.com/token")
    assert open_address.code == 2 and "token" not in open_address.err
    assert "load 'last' has no report" in run("alerts", "last", "--output", tmp_path).err
    assert "reject_ratio=7.0 must be" in run("alerts", "last", "--output", tmp_path, "--reject_ratio=7").err
