"""The messages are what docs/mqtt.md says."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from bot.operate.messages import TOPICS, schema
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "mqtt.md").read_text()


def documented() -> dict[str, tuple[dict, dict]]:
    """Topic to (example, schema), as the page has them."""
    found = {}
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        topic = re.match(r"`([^`]+)`", section)
        blocks = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
        assert topic is not None
        found[topic[1]] = tuple(json.loads(block) for block in blocks)
    return found


def test_every_topic_has_its_section():
    assert list(documented()) == list(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topics_example_and_schema_are_those_of_its_struct(topic):
    example, written = documented()[topic]
    kind = TOPICS[topic]
    assert written == schema(kind), json.dumps(schema(kind), indent=1)
    message = msgspec.convert(example, kind, str_keys=True)
    assert msgspec.to_builtins(message, enc_hook=str).keys() == example.keys()
    assert set(schema(kind)["required"]) <= example.keys()
