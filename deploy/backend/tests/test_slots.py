"""Slots: how many calls are worked on at a time, whoever still waits for them."""

import asyncio
import time

import pytest
from gated import begun, client, opened, run

from assistant.calls import INBOUND_PATH
from assistant.settings import Settings, SettingsError

WORK_S = 0.05


def test_one_slot_works_on_one_call_at_a_time_also_on_those_that_were_given_up(body):
    async def scenario():
        async with client(BACKEND_SLOTS="1", BACKEND_DELAY_MS="50") as http:
            await opened(http)
            chats = [body(from_number=f"54911000000{n:02}") for n in range(6)]
            start = time.monotonic()
            posts = [asyncio.create_task(http.post(INBOUND_PATH, json=chat)) for chat in chats]
            assert [(await post).status_code for post in posts] == [200] * 6
            assert time.monotonic() - start >= 6 * WORK_S
            calls = await begun(http, 6)
            ended = [call["ended_at"] for call in calls]
            assert ended == sorted(ended)
            # A known message needs no work.
            assert (await http.post(INBOUND_PATH, json=chats[0])).status_code == 200

    run(scenario)


def test_several_slots_work_side_by_side(body):
    async def scenario():
        async with client(BACKEND_SLOTS="3", BACKEND_DELAY_MS="50") as http:
            await opened(http)
            chats = [body(from_number=f"54911000000{n:02}") for n in range(6)]
            start = time.monotonic()
            posts = [asyncio.create_task(http.post(INBOUND_PATH, json=chat)) for chat in chats]
            assert [(await post).status_code for post in posts] == [200] * 6
            assert time.monotonic() - start >= 2 * WORK_S

    run(scenario)


@pytest.mark.parametrize("raw", ["0", "-1", "many"])
def test_a_number_of_slots_that_is_none_is_named(raw):
    with pytest.raises(SettingsError, match="BACKEND_SLOTS"):
        Settings.from_env({"BACKEND_SLOTS": raw})
