"""A delivery falls into its events, exactly, or stays whole; it never raises, and never takes more than it may."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.splitting import MOST_ITEMS, Split, elements, meta, most_bytes, narrowed, pointed

SPLITTERS = [
    elements(),
    elements(having=("specversion",)),
    pointed("/data/events"),
    narrowed("/notificationItems/*"),
    narrowed("/data/items/*"),
    meta(),
]


def loads(items: list[bytes] | None) -> list[Any]:
    assert items is not None
    return [json.loads(item) for item in items]


def test_the_elements_of_an_array_are_its_exact_slices() -> None:
    body = b' [ {"event": "open", "n":1.0} ,\n{"event":"\\u00e9\xc3\xa9","x":[{"y":[]}]}\t] '
    assert elements()(body) == [b'{"event": "open", "n":1.0}', b'{"event":"\\u00e9\xc3\xa9","x":[{"y":[]}]}']
    assert elements()(b"[{}]") == [b"{}"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"[1]",
        b'[{},"x"]',
        b"[{},[{}]]",
        b"[{},null]",
        b"[{}",
        b"[{},]",
        b"[{}] x",
        b"\xff\xfe[{}]",
        b"[{}]\x00",
        b'"[{}]"',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
        b"[" + b"{}," * MOST_ITEMS + b"{}]",
    ],
)
def test_what_is_no_array_of_objects_stays_whole(body: bytes) -> None:
    assert elements()(body) is None
    assert pointed("/e")(b'{"e":' + body + b"}") is None
    assert narrowed("/e/*")(b'{"e":' + body + b"}") is None
    assert meta()(b'{"object":"page","entry":' + body + b"}") is None


def test_a_byte_that_is_no_text_spoils_its_own_item_alone() -> None:
    body = b'[{"a":"\xff"},{"b":"\xc3\xa9"}]'
    assert elements()(body) == [b'{"a":"\xff"}', b'{"b":"\xc3\xa9"}']


def test_as_many_items_as_may_be_are_split() -> None:
    body = b"[" + b"{}," * (MOST_ITEMS - 1) + b"{}]"
    assert elements()(body) == [b"{}"] * MOST_ITEMS
    assert elements()(b"[{}]") == [b"{}"], "nothing is left over from a longer one"


def test_an_array_is_a_batch_only_if_each_element_has_what_it_must_have() -> None:
    split = elements(having=("specversion", "id"))
    one, other = b'{"specversion":"1.0","id":"1"}', b'{"id":"2","specversion":"1.0","data":{}}'
    assert split(b"[" + one + b"," + other + b"]") == [one, other]
    assert split(b"[" + one + b',{"id":"2"}]') is None
    assert split(one) is None, "a structured event is no batch"


def test_the_array_at_a_pointer() -> None:
    body = b'{"events":[{"no":1}],"a/b":{"events": [ {"n":1}, {"n":2} ] } }'
    assert pointed("/a~1b/events")(body) == [b'{"n":1}', b'{"n":2}']
    assert pointed("/events")(body) == [b'{"no":1}']
    assert pointed("")(b'[{"n":1}]') == [b'{"n":1}']
    for pointer in ("/nowhere", "/a~1b", "/a~1b/events/0", "/events/x"):
        assert pointed(pointer)(body) is None


@pytest.mark.parametrize("pointer", ["events", "/a~2", "/items", "/items/*/x", "*"])
def test_a_pointer_that_is_none_is_refused_when_it_is_made(pointer: str) -> None:
    with pytest.raises(ValueError, match="JSON Pointer"):
        narrowed(pointer)


ADYEN = b"""{ "live":"false",
  "notificationItems":[ {"NotificationRequestItem":{"eventCode":"AUTHORISATION","amount":{"value":1130.0}}},
 {"NotificationRequestItem":{"eventCode":"CAPTURE"}} ] , "tail": 1 }"""


def test_a_narrowed_document_keeps_every_byte_around_its_one_element() -> None:
    items = narrowed("/notificationItems/*")(ADYEN)
    assert items is not None
    start, end = ADYEN.index(b"[ {"), ADYEN.index(b"] ,") + 1
    for item, element in zip(items, json.loads(ADYEN)["notificationItems"], strict=True):
        assert item.startswith(ADYEN[:start])
        assert item.endswith(ADYEN[end:])
        assert json.loads(item)["notificationItems"] == [element]


def test_a_document_with_one_element_is_its_own_item() -> None:
    assert narrowed("/notificationItems/*")(b'{"live":"false","notificationItems":[{"a":1}]}') is None
    assert narrowed("/notificationItems/*")(b'{"live":"false"}') is None
    assert narrowed("/notificationItems/*")(b"not json") is None


def test_a_nested_array_is_narrowed_inside_its_document() -> None:
    body = b'{"v":1,"data":{"total":2,"items":[{"n":1},{"n":2}]}}'
    assert narrowed("/data/items/*")(body) == [
        b'{"v":1,"data":{"total":2,"items":[{"n":1}]}}',
        b'{"v":1,"data":{"total":2,"items":[{"n":2}]}}',
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"copy": [{"n": 1}, {"n": 2}], "items": [{"n": 1}, {"n": 2}]},
        {"items": [{"n": 1}, {"n": 2}], "copy": [{"n": 1}, {"n": 2}]},
        {"text": '[{"n":1},{"n":2}]', "items": [{"n": 1}, {"n": 2}], "more": {"items": [{"n": 1}, {"n": 2}]}},
        {"more": [[{"n": 1}, {"n": 2}]], "items": [{"n": 1}, {"n": 2}]},
    ],
)
def test_what_looks_like_the_array_elsewhere_is_left_alone(document: dict[str, Any]) -> None:
    body = json.dumps(document, separators=(",", ":")).encode()
    assert loads(narrowed("/items/*")(body)) == [document | {"items": [{"n": n}]} for n in (1, 2)]


def test_too_much_that_looks_like_the_array_is_not_looked_through() -> None:
    copies = {f"c{number}": [{"n": 1}, {"n": 2}] for number in range(50)}
    body = json.dumps(copies | {"items": [{"n": 1}, {"n": 2}]}).encode()
    assert narrowed("/items/*")(body) is None


def test_items_that_repeat_large_surroundings_are_not_made() -> None:
    def body(surroundings: int) -> bytes:
        return json.dumps({"pad": "x" * surroundings, "items": [{"n": n} for n in range(1000)]}).encode()

    assert len(narrowed("/items/*")(body(1000)) or ()) == 1000
    few = [b'{"pad":"%b","items":[%b]}' % (b"x" * (1 << 20), b",".join([b'{"n":1}'] * count)) for count in (2, 3, 4)]
    assert [len(narrowed("/items/*")(one) or ()) for one in few] == [2, 3, 0], "twice the size and a megabyte, no more"
    large = body(1 << 20)
    tracemalloc.start()
    try:
        assert narrowed("/items/*")(large) is None
        assert tracemalloc.get_traced_memory()[1] < most_bytes(large) + 8 * len(large)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("split", [elements(), pointed("/items"), narrowed("/items/*"), meta()])
@pytest.mark.parametrize("element", [b"{}", b"1", b"[]", b'""'])
def test_memory_stays_bounded_whatever_the_array_holds(split: Split, element: bytes) -> None:
    array = b"[" + b",".join([element] * 500_000) + b"]"
    bodies = [array, b'{"items":' + array + b"}", b'{"entry":' + array + b"}"]
    tracemalloc.start()
    try:
        assert [split(body) for body in bodies] == [None] * 3
        assert tracemalloc.get_traced_memory()[1] < 6 * len(array) + (4 << 20)
    finally:
        tracemalloc.stop()


WHATSAPP = {
    "object": "whatsapp_business_account",
    "entry": [
        {
            "id": "1",
            "changes": [
                {
                    "field": "messages",
                    "value": {
                        "metadata": {"phone_number_id": "9"},
                        "contacts": [{"wa_id": "49"}],
                        "messages": [{"id": "m1"}, {"id": "m2"}],
                        "statuses": [{"id": "s1", "status": "read"}],
                    },
                },
                {"field": "account_update", "value": {"event": "x"}},
            ],
        },
        {"id": "2", "changes": [{"field": "messages", "value": {"statuses": [{"id": "s2"}]}}]},
    ],
}


def test_whatsapp_falls_into_messages_and_statuses_each_with_its_surroundings() -> None:
    documents = loads(meta()(json.dumps(WHATSAPP, indent=1).encode()))
    values = [document["entry"][0]["changes"][0]["value"] for document in documents]
    assert [(value.get("messages"), value.get("statuses")) for value in values] == [
        ([{"id": "m1"}], []),
        ([{"id": "m2"}], []),
        ([], [{"id": "s1", "status": "read"}]),
        (None, None),
        (None, [{"id": "s2"}]),
    ]
    assert [document["entry"][0]["id"] for document in documents] == ["1", "1", "1", "1", "2"]
    assert values[1]["contacts"] == [{"wa_id": "49"}]
    assert all(len(document["entry"]) == len(document["entry"][0]["changes"]) == 1 for document in documents)


def test_messenger_and_pages_fall_into_messaging_and_changes() -> None:
    body = {
        "object": "page",
        "entry": [
            {"id": "1", "messaging": [{"mid": 1}, {"mid": 2}], "standby": []},
            {"id": "2", "changes": [{"field": "feed", "value": {"n": 1}}, {"field": "feed", "value": 2}]},
            {"id": "3", "changes": None, "messaging": [{"mid": 3}]},
            {"id": "4", "unheard_of": True},
        ],
    }
    entries = [document["entry"] for document in loads(meta()(json.dumps(body).encode()))]
    assert entries == [
        [{"id": "1", "messaging": [{"mid": 1}], "standby": []}],
        [{"id": "1", "messaging": [{"mid": 2}], "standby": []}],
        [{"id": "2", "changes": [{"field": "feed", "value": {"n": 1}}]}],
        [{"id": "2", "changes": [{"field": "feed", "value": 2}]}],
        [{"id": "3", "changes": None, "messaging": [{"mid": 3}]}],
        [{"id": "4", "unheard_of": True}],
    ]


def test_one_whatsapp_message_is_its_own_item() -> None:
    body = {"object": "w", "entry": [{"changes": [{"field": "f", "value": {"messages": [{"id": "m"}]}}]}]}
    assert meta()(json.dumps(body).encode()) is None
    body["entry"][0]["changes"][0]["value"]["messages"].append({"id": "n"})  # type: ignore[index]
    assert len(meta()(json.dumps(body).encode()) or ()) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["entry", "changes", "value", "messages", "statuses", "messaging", "data", "items", "events"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()), st.sampled_from(SPLITTERS))
def test_nothing_raises_and_every_item_is_json(body: bytes, split: Split) -> None:
    items = split(body)
    for item in items or ():
        assert isinstance(json.loads(item.decode("utf-8", "replace")), dict)


@given(JSON)
def test_meta_loses_no_event(entry: object) -> None:
    """Whatever the entries are like: the items' entries, put together again by events, are the sender's."""
    body = {"object": "x", "entry": [{"messaging": [{"n": n} for n in range(3)]}, {"odd": entry}]}
    documents = loads(meta()(json.dumps(body).encode()))
    assert [one["messaging"][0]["n"] for document in documents for one in document["entry"] if "messaging" in one] == [
        0,
        1,
        2,
    ]
    assert documents[-1]["entry"] == [{"odd": entry}]
