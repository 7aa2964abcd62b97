"""The same message again, one after the other and at once: one turn of the assistant, one answer."""

import asyncio

import httpx2
from gated import begun, client, opened, run

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


def test_a_forgetful_assistant_knows_the_last_text_only_and_no_buttons(backend, body):
    client = backend(ASSISTANT_MODE="forgetful")

    def ask(id, text, **changes):
        said = client.post(INBOUND_PATH, json=body(message_id=id, text=text, **changes)).json()
        return said["response_text"], said["buttons"], said["interactive_type"]

    menu = "¿Qué querés hacer?"
    assert ask("1", "El menú, por favor") == (menu, ["Reservar", "Cancelar"], "buttons")
    assert ask("1", "El menú, por favor") == (menu, None, None)
    assert ask("2", "hola") == ("eco: hola", None, None)
    assert ask("1", "El menú, por favor") == ("eco: hola", None, None)
    # Another conversation has a memory of its own.
    other = ask("1", "menú", from_number="5491187654321")
    assert other == (menu, ["Reservar", "Cancelar"], "buttons")


def test_copies_at_the_same_time_share_one_turn(body):
    async def scenario():
        async with client() as http:
            posts = [
                asyncio.create_task(http.post(INBOUND_PATH, json=body(text="una mesa para 4")))
                for _ in range(5)
            ]
            await begun(http, 5)
            await opened(http)
            copies = [await post for post in posts]
            calls = (await http.get("/calls")).json()
        assert len({copy.text for copy in copies}) == 1
        assert sorted(call["cached"] for call in calls) == [False, True, True, True, True]

    run(scenario)


def test_a_copy_of_a_failed_call_takes_the_turn_itself(body):
    async def scenario():
        # With this seed the first call fails and the second does not.
        async with client(BACKEND_FAIL="0.5:503", BACKEND_FAIL_SEED="4") as http:
            posts = []
            for number in range(2):
                posts.append(asyncio.create_task(http.post(INBOUND_PATH, json=body())))
                await begun(http, number + 1)
            await opened(http)
            copies = [await post for post in posts]
        assert [copy.status_code for copy in copies] == [503, 200]

    run(scenario)


def test_chats_do_not_wait_for_each_other(body):
    async def scenario():
        async with client() as http:
            await opened(http)
            other = body(from_number="5491187654321")
            answer = await http.post(INBOUND_PATH, json=other)
            await http.post("/gate/close")
            held = asyncio.create_task(http.post(INBOUND_PATH, json=body()))
            await begun(http, 2)
            # It has its turn while the first chat's call is under way.
            assert (await http.post(INBOUND_PATH, json=other)).text == answer.text
            assert not held.done()
            await opened(http)
            assert (await held).status_code == 200

    run(scenario)
