"""The first signal is obeyed where it does no harm, the second at once."""

import hashlib
import os
import signal
import threading
import time

import pytest

from children import ended, start, wait_until
from framefill import cli
from framefill.atomic import replacing
from framefill.signals import Stop, Stopped, listening


def receive(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # handlers run between bytecodes


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_raises_with_the_exit_code(number, code):
    with pytest.raises(Stopped) as caught, listening():
        receive(number)
    assert caught.value.code == code
    assert not isinstance(caught.value, Exception)  # what suppresses every Exception lets it pass


def test_in_finishing_a_signal_is_noted_and_in_at_once_it_raises():
    with listening() as stop:
        with stop.finishing():
            receive()
            assert stop.number == signal.SIGTERM
            with pytest.raises(Stopped), stop.at_once():
                pytest.fail("noted before, so nothing more is begun")
            done = True
        assert done


def test_in_at_once_within_finishing_a_signal_raises_and_finishing_goes_on():
    with listening() as stop, stop.finishing():
        with pytest.raises(Stopped), stop.at_once():
            receive()
        assert stop.number == signal.SIGTERM


def test_listening_twice_is_listening_once_and_all_is_restored():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    threads = threading.active_count()
    with listening() as outer, listening() as inner:
        assert outer is inner
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert threading.active_count() == threads


def test_outside_the_main_thread_nothing_is_heard():
    found = []

    def listen():
        with listening() as stop:
            found.append(stop)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert isinstance(found[0], Stop)


def long_call(ready) -> None:
    with listening() as stop, stop.finishing():
        ready.touch()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)  # a minute in one call, in which no handler can run


def test_the_second_signal_ends_even_a_call_that_hears_nothing(tmp_path):
    child = start(long_call, tmp_path / "ready", log=tmp_path / "log")
    wait_until((tmp_path / "ready").exists)
    os.kill(child.pid, signal.SIGTERM)
    child.join(0.2)
    assert child.exitcode is None
    os.kill(child.pid, signal.SIGTERM)
    begin = time.monotonic()
    assert ended([child], 5) == [143]
    assert time.monotonic() - begin < 1


def test_under_torchrun_the_same_signal_may_come_twice(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with listening() as stop, stop.finishing():
        receive()
        receive()
        assert stop.number == signal.SIGTERM


def test_a_verb_that_is_stopped_leaves_nothing_half_written(tmp_path, monkeypatch, capsys):
    def verb(words):
        with replacing(tmp_path / "a") as part:
            part.write_text("half")
            receive()

    monkeypatch.setattr(cli, "_run", verb)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 143
    assert capsys.readouterr().err == "framefill: stopped\n"
    assert list(tmp_path.iterdir()) == []
