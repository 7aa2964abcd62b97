"""Whether two devices of one account were online at once, by what the simulator saw. Pure."""

from typing import Any

Visit = dict[str, Any]


def overlaps(visits: list[Visit], cut_off: list[tuple[int, int]]) -> list[str]:
    """Of visits of *different* devices. While its line to WhatsApp is cut an edge cannot say goodbye: a visit that lasts into
    one of the spans `cut_off` (milliseconds since 1970) ends with the last that was heard from it."""
    found = []
    for n, later in enumerate(visits):
        for earlier in visits[:n]:
            if earlier["device"] == later["device"]:
                continue
            end = _end(earlier, cut_off)
            if end is None or end > later["since"]:
                found.append(f"device {earlier['device']} is online since {earlier['since']} until {end}, device {later['device']} since {later['since']}")
    return found


def _end(visit: Visit, cut_off: list[tuple[int, int]]) -> int | None:
    until = visit["until"]
    silent = any(since <= (until or to) and visit["last_heard"] <= to and (until is None or until >= since) for since, to in cut_off)
    return int(visit["last_heard"]) if silent else until


def now_online(visits: list[Visit]) -> int | None:
    """The device whose connection is there; the latest, if an old one is still believed to be."""
    there = [visit for visit in visits if visit["until"] is None]
    return int(there[-1]["device"]) if there else None
