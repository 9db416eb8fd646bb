"""What is sealed opens only with its key, under its context, unaltered."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import ConfigError
from events.secretbox import SecretBox, key_id

OLD, NEW = (base64.b64encode(bytes([fill]) * 32).decode() for fill in (1, 2))


@given(plain=st.binary(), context=st.text(max_size=40))
def test_what_is_sealed_opens(plain: bytes, context: str) -> None:
    box = SecretBox(OLD)
    sealed = box.seal(plain, context)
    assert box.open(sealed, context) == plain
    assert len(sealed) == 1 + 4 + 12 + len(plain) + 16
    assert sealed != box.seal(plain, context), "a nonce is used once"


def test_keys_can_be_rotated() -> None:
    sealed = SecretBox(OLD).seal(b"secret", "source/3")
    both = SecretBox(f"{NEW}, {OLD}")
    assert both.open(sealed, "source/3") == b"secret"
    assert SecretBox(NEW).open(both.seal(b"secret", "source/3"), "source/3") == b"secret"
    with pytest.raises(
        ConfigError, match=r"expected the key that sealed this \(id [0-9a-f]{8}\), got only: [0-9a-f]{8}"
    ):
        SecretBox(NEW).open(sealed, "source/3")


def test_a_sealed_secret_does_not_open_elsewhere_or_altered() -> None:
    box = SecretBox(OLD)
    sealed = box.seal(b"secret", "source/3")
    with pytest.raises(ConfigError, match="altered bytes or those of another row"):
        box.open(sealed, "source/4")
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(ConfigError):
            box.open(bytes(altered), "source/3")
    for end in range(len(sealed)):
        with pytest.raises(ConfigError):
            box.open(sealed[:end], "source/3")


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ("", "secret_key: expected 32 bytes in base64, got nothing"),
        (" , ", "secret_key: expected 32 bytes in base64, got nothing"),
        ("hunter2!", "secret_key: expected 32 bytes in base64, got something else"),
        ("schlüssel", "secret_key: expected 32 bytes in base64, got something else"),
        (base64.b64encode(b"sixteen bytes...").decode(), "secret_key: expected 32 bytes in base64, got 16 bytes"),
        (f"{OLD},hunter2!", r"secret_key \(number 2 of 2\): expected 32 bytes in base64, got something else"),
    ],
)
def test_a_key_that_is_none_is_said_without_being_shown(keys: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        SecretBox(keys)
    assert "hunter2" not in str(caught.value)
    assert OLD not in str(caught.value)


def test_the_box_does_not_show_its_keys() -> None:
    assert OLD not in repr(SecretBox(OLD))


def test_it_tells_what_the_newest_key_has_sealed() -> None:
    sealed = SecretBox(OLD).seal(b"s", "source/1")
    both = SecretBox(f"{NEW},{OLD}")
    assert SecretBox(OLD).current(sealed)
    assert not both.current(sealed)
    again = both.seal(both.open(sealed, "source/1"), "source/1")
    assert both.current(again)
    assert key_id(again) == key_id(SecretBox(NEW).seal(b"t", "source/2")) != key_id(sealed)
    assert both.current(b"") is False
    assert key_id(b"\x02whatever") == key_id(b"") == "?"
