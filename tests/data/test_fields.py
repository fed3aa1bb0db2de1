"""Pins: a recorder that files a message by fields that it misread, or takes one that is cut short."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inril_msgs import msg as messages
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from inril_core.data.fields import FieldReader
from inril_core.data.schemas import IMAGE_TYPE, TOPICS
from tests.data.synthetic import schemas

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=5)


def drawn(data, kind):
    """A message whose fields all have drawn values, so that what follows moves as far as it can."""
    message = kind()
    for name, type_name in kind.get_fields_and_field_types().items():
        if type_name == "string":
            setattr(message, name, data.draw(TEXT))
        elif type_name == "boolean":
            setattr(message, name, data.draw(st.booleans()))
        elif type_name.startswith(("uint", "int")):
            setattr(message, name, data.draw(st.integers(0, 2 ** (int(type_name.strip("uint")) - 1) - 1)))
        elif type_name in ("sequence<float>", "sequence<double>"):
            setattr(message, name, data.draw(FLOATS))
        elif type_name == "sequence<string>":
            setattr(message, name, data.draw(st.lists(TEXT, max_size=3)))
        elif type_name == "sequence<sensor_msgs/Image>":
            pixels = data.draw(st.lists(st.binary(max_size=5), max_size=3))
            setattr(message, name, [Image(encoding="rgb8", data=list(some)) for some in pixels])
    if hasattr(message, "header"):
        message.header.frame_id = data.draw(TEXT)
    return message


def readable(kind):
    """Names of the numbers and strings of a type."""
    fields = kind.get_fields_and_field_types().items()
    return [name for name, type_name in fields if not set("/<[") & set(type_name)]


@pytest.mark.parametrize("type_name", [*TOPICS.values()])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_fields_of_any_message_are_those_that_were_sent(type_name, data):
    kind = getattr(messages, type_name.rsplit("/", 1)[1])
    names = readable(kind)
    wanted = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    message = drawn(data, kind)
    found = FieldReader(schemas()[type_name], wanted)(serialize_message(message))
    assert vars(found) == {name: getattr(message, name) for name in wanted}


@pytest.mark.parametrize("type_name", [*TOPICS.values()])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_message_that_is_cut_short_is_refused(type_name, data):
    kind = getattr(messages, type_name.rsplit("/", 1)[1])
    whole = serialize_message(drawn(data, kind))
    end = data.draw(st.integers(0, max(0, len(whole) - 12)))  # padding at the end says nothing
    with pytest.raises(ValueError, match=r"cut short|no CDR|are announced"):
        FieldReader(schemas()[type_name], readable(kind))(whole[:end])


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=300), type_name=st.sampled_from(sorted(TOPICS.values())))
def test_no_bytes_do_worse_than_a_value_error(body, type_name):
    kind = getattr(messages, type_name.rsplit("/", 1)[1])
    reader = FieldReader(schemas()[type_name], readable(kind))
    with contextlib.suppress(ValueError):
        reader(b"\0\1\0\0" + body)


def test_a_field_that_cannot_be_read_is_named():
    for name in ("header", "data", "nothing"):
        with pytest.raises(ValueError, match=name):
            FieldReader(schemas()[IMAGE_TYPE], [name])
