"""Exceptions at any moment: of fit, of the range test, of resuming. Nothing is left half done."""

import os
import signal

import numpy as np
import pytest
from fitting import problem
from raising import LEAVES_FILES_OPEN, raising_at

import fastopt as fo
from fastopt import nn
from fastopt._moving import surely

pytestmark = LEAVES_FILES_OPEN
X, Y = problem(rows=40)


@pytest.fixture(params=[25, pytest.param(300, marks=pytest.mark.slow)])
def places(request):
    """So many of the instructions of a run, at which raising is tried: evenly spread, none of which is special."""

    def some(count, offset):
        return range(1 + offset, count, max(1, count // request.param))

    return some


def made():
    layers = nn.Linear(5, 4), nn.BatchNorm(4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 1)
    model = nn.Sequential(*layers, rng=0)
    return model, fo.optim.Adam(model.parameters(), lr=0.05)


def whole_state(model, opt):
    state = opt.state_dict()
    arrays = {f"{key} of {name}": s for name, states in state.pop("state").items() for key, s in states.items()}
    return {name: array.tobytes() for name, array in (model.state_dict() | arrays).items()}, state


def surroundings():
    return np.geterr(), signal.getsignal(signal.SIGINT)


OPTIONS = {"epochs": 2, "batch_size": 16, "rng": 1, "validation": (X, Y), "ema": 0.9}


@pytest.mark.parametrize(
    "options", [{}, {"accumulate": 2, "ema": None}, {"clip_norm": 0.1, "checkpoint": "run.npz"}], ids=str
)
def test_a_run_ends_with_a_whole_number_of_steps(options, places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, opt = made()
    after = {0: whole_state(model, opt)}
    options = OPTIONS | options

    def note(run):
        after[run.optimizer.step_count] = whole_state(run.model, run.optimizer)

    fo.fit(model, X, Y, optimizer=opt, callbacks={"batch": note}, **options)
    at_the_end, before = whole_state(model, opt), surroundings()
    model, opt = made()
    count, _ = raising_at(0, lambda: fo.fit(model, X, Y, optimizer=opt, **options))
    for place in places(count, offset=len(options)):
        model, opt = made()
        raising_at(place, lambda model=model, opt=opt: fo.fit(model, X, Y, optimizer=opt, **options))
        assert surroundings() == before
        state = whole_state(model, opt)
        if state != at_the_end:
            assert state == after[opt.step_count], place
    assert set(os.listdir()) <= {"run.npz"}


@pytest.mark.parametrize("validation", [None, 0.25])
def test_a_range_test_leaves_no_trace(validation, places):
    def test(place):
        model, opt = made()
        generator = np.random.default_rng(0)
        before = whole_state(model, opt), opt.lr, generator.bit_generator.state, surroundings()
        count, _ = raising_at(
            place,
            lambda: fo.lr_range_test(
                model, X, Y, optimizer=opt, rng=generator, steps=5, batch_size=16, validation=validation
            ),
        )
        assert (whole_state(model, opt), opt.lr, generator.bit_generator.state, surroundings()) == before, place
        return count

    for place in places(test(0), offset=5):
        test(place)


def test_resuming_is_done_wholly_or_not_at_all(places, tmp_path):
    path = tmp_path / "run.npz"
    model, opt = made()
    fo.fit(model, X, Y, optimizer=opt, callbacks=fo.EarlyStopping(), checkpoint=path, **OPTIONS)
    resumed = whole_state(model, opt)[1]["step_count"]

    def resume(place):
        model, opt = made()
        stopping, generator = fo.EarlyStopping(restore_best=False), np.random.default_rng(1)
        options = OPTIONS | {"rng": generator}
        before = whole_state(model, opt), generator.bit_generator.state, stopping.state_dict()
        count, raised = raising_at(
            place,
            lambda: fo.fit(model, X, Y, optimizer=opt, callbacks=stopping, resume_from=path, **options),
        )
        if raised and opt.step_count != resumed:
            assert (whole_state(model, opt), generator.bit_generator.state, stopping.state_dict()) == before, place
        elif raised:
            assert generator.bit_generator.state != before[1]
            assert stopping.best_epoch > 0
        return count

    for place in places(resume(0), offset=11):
        resume(place)


def test_the_average_takes_in_a_step_that_was_done_before_the_exception():
    class Interrupted(fo.optim.Adam):
        def step(self, grads, **options):
            super().step(grads, **options)
            if self.step_count == 5:
                raise KeyboardInterrupt

    model, _ = made()
    opt = Interrupted(model.parameters(), lr=0.05)
    history = fo.fit(model, X, Y, optimizer=opt, **OPTIONS)
    assert history.interrupted
    stopped, opt = made()
    fo.fit(stopped, X, Y, optimizer=opt, callbacks={"batch": lambda r: opt.step_count == 5 and r.stop()}, **OPTIONS)
    assert model.fingerprint() == stopped.fingerprint()


def test_the_history_has_no_epoch_that_is_not_over(monkeypatch):
    append = fo.History.append

    def interrupted(self, *measured):
        append(self, *measured)
        if len(self) == 2:
            raise SystemExit

    monkeypatch.setattr(fo.History, "append", interrupted)
    model, opt = made()
    with pytest.raises(SystemExit) as caught:
        fo.fit(model, X, Y, optimizer=opt, **OPTIONS)
    assert len(caught.value.history) == 1


def test_an_exit_by_a_signal_while_the_average_is_in_the_model():
    """SystemExit by a handler of SIGTERM, as services end; and it carries the history."""

    def leave(number, frame):
        raise SystemExit(3)

    ends = []

    def terminate(run):
        if run.epoch == 2:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        model, opt = made()
        callbacks = {"epoch": terminate, "end": lambda run: ends.append(run.error)}
        with pytest.raises(SystemExit) as caught:
            fo.fit(model, X, Y, optimizer=opt, callbacks=callbacks, **OPTIONS | {"epochs": 5})
    finally:
        signal.signal(signal.SIGTERM, before)
    plain, plain_opt = made()
    fo.fit(plain, X, Y, optimizer=plain_opt, **OPTIONS | {"ema": None})
    assert whole_state(model, opt) == whole_state(plain, plain_opt)
    assert len(caught.value.history) == 2
    assert caught.value.history.stopped == "SystemExit: 3"
    assert ends == [caught.value]


def test_what_must_be_done_is_repeated_until_it_is_through():
    tries = []

    def interrupted():
        tries.append(None)
        if len(tries) < 4:
            raise KeyboardInterrupt

    surely(interrupted)
    assert len(tries) == 4
    with pytest.raises(ZeroDivisionError):
        surely(lambda: 1 // 0)  # what never gets through is not repeated for ever
