"""A line that stays the last one of a terminal."""

import contextlib
import io
import sys

import pytest

from kerax.callbacks.live_line import LiveLine
from tests.callbacks.test_progress import screen

BAR = [("abc ", None), ("==", "green"), ("--", "grey"), (" loss: 1.0", None)]


@pytest.fixture
def stream(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return io.StringIO()


def test_what_is_printed_meanwhile_goes_above(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    line = LiveLine(stream)
    line.open()
    line.draw(BAR)
    print("one")
    sys.stdout.writelines(["two\nth", "ree\n"])
    assert screen(stream.getvalue()) == ["one", "two", "three", "abc ==-- loss: 1.0"]
    print("half", end="")
    line.finish([("done", None)])
    print("after")
    assert screen(stream.getvalue()) == ["one", "two", "three", "half", "done", "after", ""]
    assert sys.stdout is stream and not line.is_open


def test_what_is_flushed_is_seen_at_once(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    line = LiveLine(stream)
    line.open()
    line.draw(BAR)
    print("half", end="", flush=True)
    assert screen(stream.getvalue()) == ["half", "abc ==-- loss: 1.0"]
    line.close()


def test_a_redirection_outlives_the_line(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    line, other = LiveLine(stream), io.StringIO()
    line.open()
    line.draw(BAR)
    with contextlib.redirect_stdout(other):
        line.close()
        print("elsewhere")
    assert other.getvalue() == "elsewhere\n"
    print("still here")
    assert screen(stream.getvalue()) == ["abc ==-- loss: 1.0", "still here", ""]


def test_a_long_line_is_cut_until_it_is_finished(stream):
    line = LiveLine(stream)
    line.open()
    line.draw([("x" * 30, None), ("y" * 30, "green"), ("z", None)])
    assert screen(stream.getvalue()) == ["x" * 30 + "y" * 9]
    line.finish([("x" * 50, None)])
    assert screen(stream.getvalue())[0] == "x" * 50


def test_closing_leaves_what_was_drawn(stream):
    line = LiveLine(stream)
    line.close()
    assert stream.getvalue() == ""
    line.open()
    line.draw(BAR)
    line.close()
    line.close()
    assert screen(stream.getvalue()) == ["abc ==-- loss: 1.0", ""]


def test_colours_and_characters_are_those_that_the_terminal_has(stream, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    line = LiveLine(stream)
    line.open()
    line.draw(BAR)
    assert stream.getvalue() == "\r\x1b[2Kabc ==-- loss: 1.0"
    assert line.can_show("━")
    assert not LiveLine(io.TextIOWrapper(io.BytesIO(), encoding="ascii")).can_show("━")
    line.close()
