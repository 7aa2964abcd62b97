"""The gate: calls wait until it opens, for as long as that takes and no longer than its bound."""

import asyncio

import pytest
from fastapi import HTTPException
from gated import begun, client, opened, run

from assistant.calls import INBOUND_PATH
from assistant.gate import Gate


def test_all_calls_wait_at_the_gate_and_go_on_together(body):
    async def scenario():
        async with client() as http:
            chats = [body(from_number=f"54911000000{n:02}") for n in range(5)]
            posts = [asyncio.create_task(http.post(INBOUND_PATH, json=chat)) for chat in chats]
            calls = await begun(http, 5)
            assert [call["status"] for call in calls] == [None] * 5
            await opened(http)
            assert [(await post).status_code for post in posts] == [200] * 5
            # It stays open.
            later = await http.post(INBOUND_PATH, json=body(message_id="later"))
            assert later.status_code == 200

    run(scenario)


def test_a_cached_answer_does_not_wait_and_a_gate_that_is_closed_again_holds(body):
    async def scenario():
        async with client() as http:
            await opened(http)
            first = await http.post(INBOUND_PATH, json=body())
            assert (await http.post("/gate/close")).json() == {"gate": "closed"}
            assert (await http.post(INBOUND_PATH, json=body())).text == first.text
            held = asyncio.create_task(http.post(INBOUND_PATH, json=body(message_id="2")))
            assert (await begun(http, 3))[2]["status"] is None
            await opened(http)
            assert (await held).status_code == 200

    run(scenario)


def test_nobody_waits_for_ever():
    async def scenario():
        with pytest.raises(HTTPException):
            await Gate(closed=True, wait_s=0).passed()
        # One that is open needs no time at all.
        await Gate(wait_s=0).passed()

    run(scenario)


def test_a_gate_that_stays_closed_is_a_504_that_says_so(body, monkeypatch):
    monkeypatch.setattr("assistant.app.Gate", lambda closed: Gate(closed, wait_s=0))

    async def scenario():
        async with client() as http:
            answer = await http.post(INBOUND_PATH, json=body())
        assert (answer.status_code, answer.json()) == (
            504,
            {"detail": "The gate stayed closed (BACKEND_GATE)"},
        )

    run(scenario)


@pytest.mark.parametrize("env", [{}, {"BACKEND_GATE": "0"}])
def test_without_the_setting_there_is_no_gate(backend, body, env):
    http = backend(**env)
    assert http.post(INBOUND_PATH, json=body()).status_code == 200
    assert http.post("/gate/open").status_code == http.post("/gate/close").status_code == 404
