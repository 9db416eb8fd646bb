"""What strangers are told says nothing about how this service is operated."""

from __future__ import annotations

import pytest

from ingest import answers
from ingest.reply import Reply


@pytest.mark.parametrize(
    "reply", [answers.UNKNOWN, answers.TOO_LARGE, answers.SLOW, answers.CROWDED, answers.TRY_AGAIN, answers.too_many(1)]
)
def test_an_answer_names_no_command_and_no_part_of_the_service(reply: Reply) -> None:
    assert not any(word in reply.body.lower() for word in (b"headrace", b"postgres", b"redis", b"apply"))
    assert len(reply.body) < 200
