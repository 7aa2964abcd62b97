"""The same message again, one after the other and at once: one turn of the assistant, one answer."""

import asyncio

import httpx2

from assistant.app import create_app
from assistant.calls import INBOUND_PATH
from assistant.settings import Settings


def test_a_message_again_gets_its_first_answer(backend, body):
    client = backend()
    asked = [
        client.post(INBOUND_PATH, json=body(message_id=id, text=text)).json()["response_text"]
        for id, text in [("1", "una mesa para 4"), ("2", "el viernes"), ("1", "una mesa para 4")]
    ]
    assert asked[0] == asked[2] == "Perfecto, 4 personas. ¿Para qué día y a qué hora?"
    assert asked[1] == "Perfecto, 4 personas, el viernes. ¿A qué hora?"
    # The copy did not take a turn: the booking still only lacks the time.
    last = client.post(INBOUND_PATH, json=body(message_id="3", text="a las 21")).json()
    assert last["response_text"].startswith("¡Reserva confirmada!")


def test_the_same_id_in_another_conversation_is_another_message(backend, body):
    client = backend(ASSISTANT_MODE="echo")
    client.post(INBOUND_PATH, json=body(text="uno"))
    other = client.post(INBOUND_PATH, json=body(text="dos", from_number="5491187654321")).json()
    assert other["response_text"] == "eco: dos"


def test_copies_at_the_same_time_share_one_turn(body):
    async def scenario():
        async with _client(BACKEND_DELAY_MS="50") as client:
            copies = await asyncio.gather(
                *(client.post(INBOUND_PATH, json=body(text="una mesa para 4")) for _ in range(5))
            )
            calls = (await client.get("/calls")).json()
        assert len({copy.text for copy in copies}) == 1
        assert sorted(call["cached"] for call in calls) == [False, True, True, True, True]

    asyncio.run(scenario())


def test_a_copy_of_a_failed_call_takes_the_turn_itself(body):
    async def scenario():
        # With this seed the first call fails and the second does not.
        async with _client(
            BACKEND_DELAY_MS="50", BACKEND_FAIL="0.5:503", BACKEND_FAIL_SEED="4"
        ) as client:
            copies = await asyncio.gather(
                *(client.post(INBOUND_PATH, json=body()) for _ in range(2))
            )
        assert [copy.status_code for copy in copies] == [503, 200]

    asyncio.run(scenario())


def test_chats_do_not_wait_for_each_other(body):
    async def scenario():
        async with _client(BACKEND_DELAY_MS="200") as client:
            await asyncio.gather(
                *(
                    client.post(INBOUND_PATH, json=body(from_number=f"54911000000{n:02}"))
                    for n in range(20)
                )
            )
            calls = (await client.get("/calls")).json()
        assert max(call["started_at"] for call in calls) < min(call["ended_at"] for call in calls)

    asyncio.run(scenario())


def _client(**env: str) -> httpx2.AsyncClient:
    app = create_app(Settings.from_env({"BACKEND_CALL_LOG": "1"} | env))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://backend")
