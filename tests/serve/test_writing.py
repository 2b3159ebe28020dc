import pytest

from kerax.serve.writing import Writer

STREAM = "né, the € and 😀 of it".encode()


def decode(tokens):
    return bytes(tokens).decode(errors="replace")


def test_a_character_of_several_tokens_is_never_written_in_parts():
    writer = Writer(decode)
    pieces = [writer.push(byte) for byte in STREAM]
    assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) == writer.text == STREAM.decode()
    assert pieces[1:3] == ["", "é"]
    assert writer.finish() == ""


def test_bytes_that_are_no_character_come_with_what_follows_or_at_the_end():
    writer = Writer(decode)
    assert [writer.push(byte) for byte in (65, 0xE2, 66, 0xF0)] == ["A", "", "\ufffdB", ""]
    assert writer.finish() == "\ufffd"
    assert writer.text == "A\ufffdB\ufffd"


@pytest.mark.parametrize(
    ("stops", "expected"),
    [(["the"], "né, "), (["and 😀", "zzz"], "né, the € "), (["it!"], STREAM.decode()), (["d 😀 o", "the €"], "né, ")],
)
def test_a_stop_string_ends_the_text_and_no_part_of_it_is_given_out(stops, expected):
    writer = Writer(decode, stops)
    text = ""
    for byte in STREAM:
        text += writer.push(byte)
        assert expected.startswith(text)
    text += writer.finish()
    assert text == writer.text == expected
    assert writer.is_stopped == (expected != STREAM.decode())


def test_what_may_begin_a_stop_string_is_held_back_until_it_does_not():
    writer = Writer(decode, ["abac"])
    assert [writer.push(ord(letter)) for letter in "xababac"] == ["x", "", "", "", "ab", "", ""]
    assert writer.is_stopped and writer.text == "xab" and writer.push(65) == ""


def test_tokens_within_the_text_are_counted():
    writer = Writer(lambda tokens: "".join(["ab", "cd", "ef"][token] for token in tokens), ["de"])
    writer.push(0)
    assert (writer.offsets, writer.count_within()) == ([0], 1)
    writer.push(1)  # its second letter is held back
    assert (writer.text, writer.count_within()) == ("abc", 2)
    writer.push(2)
    assert (writer.text, writer.offsets, writer.count_within()) == ("abc", [0, 2, 4], 2)
