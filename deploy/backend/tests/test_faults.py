"""Faults on purpose, and the settings that ask for them."""

import pytest

from assistant.calls import INBOUND_PATH
from assistant.faults import DelayRange, FailureRule, Faults, parse_delay, parse_failure
from assistant.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("0", DelayRange(0, 0)), ("150", DelayRange(150, 150)), ("0-300", DelayRange(0, 300))],
)
def test_a_delay(raw, expected):
    assert parse_delay(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("0.2:500,503", FailureRule(0.2, (500, 503))),
        ("1", FailureRule(1.0, (500,))),
        (".5:429", FailureRule(0.5, (429,))),
    ],
)
def test_a_failure_rule(raw, expected):
    assert parse_failure(raw) == expected


def test_every_bad_value_is_named_and_no_key_is_repeated():
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(
            {
                "AI_ASSISTANTS_API_KEYS": "s3cret",
                "BACKEND_DELAY_MS": "300-0",
                "BACKEND_FAIL": "2:200",
                "BACKEND_FAIL_SEED": "x",
                "ASSISTANT_MODE": "parrot",
                "BACKEND_CALL_LOG": "yes",
            }
        )
    message = str(caught.value)
    for name in [
        "AI_ASSISTANTS_API_KEYS:",
        "BACKEND_DELAY_MS (got '300-0')",
        "BACKEND_FAIL (got '2:200')",
        "BACKEND_FAIL_SEED (got 'x')",
        "ASSISTANT_MODE (got 'parrot')",
        "BACKEND_CALL_LOG (got 'yes')",
    ]:
        assert name in message
    assert "s3cret" not in message


@pytest.mark.parametrize("raw", ["", "-1", "1.5", "5-", "1s"])
def test_a_bad_delay_is_refused(raw):
    with pytest.raises(ValueError):
        parse_delay(raw)


@pytest.mark.parametrize("raw", ["", "1.5", "-0.1", "x", "0.5:", "0.5:200", "0.5:500,", "0.5:5000"])
def test_a_bad_failure_rule_is_refused(raw):
    with pytest.raises(ValueError):
        parse_failure(raw)


def test_a_seed_makes_the_same_plans():
    def plans(seed):
        faults = Faults(DelayRange(0, 300), FailureRule(0.5, (500, 503)), seed)
        return [faults.draw() for _ in range(100)]

    assert plans(7) == plans(7) != plans(8)
    assert all(0 <= plan.delay_s <= 0.3 for plan in plans(7))
    assert {plan.status for plan in plans(7)} == {None, 500, 503}


def test_a_failing_call_leaves_no_trace_in_the_conversation(backend, body):
    client = backend(BACKEND_FAIL="1:503")
    responses = [client.post(INBOUND_PATH, json=body()) for _ in range(2)]
    assert [response.status_code for response in responses] == [503, 503]
    assert [call["cached"] for call in client.get("/calls").json()] == [False, False]
