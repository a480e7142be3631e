"""The epochs of a run, one after the other, and what is put right where they end before their time."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._moving import surely
from .._specification.order import in_order
from .._specification.rules import RULES
from ..optim import Optimizer
from ..optim.slices import complete_state
from .advice import warn_of_skipped
from .average import WeightAverage
from .callbacks import Callbacks, Run
from .steps import Steps, Undo
from .surroundings import Surroundings
from .updates import Norms

if TYPE_CHECKING:
    from ..parallel.team import Team


_MOST_AT_ONCE, _SECONDS_AT_ONCE = 64, 2e-3


class Epochs:
    """Those of a run that are not over.

    Attributes
    ----------
    generator : numpy.random.Generator or None
        What shuffles the rows; None if they are not to be.
    bind_again : function, or None
        What gives the parts anew, after other layers have been frozen.
    save : function of the run, or None
        What is to be called after every ``save_every`` epochs, and after the last, in the process that ``saves``.
    """

    def __init__(
        self,
        session: Any,
        parts: Any,
        undo: Undo,
        average: WeightAverage | None,
        watchers: Callbacks,
        run: Run,
        norms: Norms | None,
        on_nonfinite: str,
    ):
        self.session, self.parts, self.undo, self.average = session, parts, undo, average
        self.watchers, self.run, self.norms, self.on_nonfinite = watchers, run, norms, on_nonfinite
        self.generator: Any = None
        self.save: Callable[[Run], None] | None = None
        self.save_every = 1
        self.bind_again: Callable[[], Any] | None = None
        self.saves = True
        self._team: Team | None = None  # the other processes, if there are any
        self._around = Surroundings()
        self._bar: Any = None
        self._skipped_all = self._over = False
        self._pace = _Pace()
        self._steps_of_epoch = sum(part.steps for part in parts) if isinstance(parts, list) else parts.steps

    def in_team(self, team: "Team") -> None:
        """Be one of several processes that go through the same epochs, and end together."""
        self._team = team
        team.watch(lambda: (self._around.requested, self.run.history.stopped if self.run.stopping else None))

    @property
    def steps(self) -> int | None:
        """How many steps are left, if that is known."""
        return None if self._steps_of_epoch is None else (self.run.epochs - self.run.epoch) * self._steps_of_epoch

    def go_through(self, tqdm: Any) -> None:
        """All of them, from the event "start" to "end". Whatever is raised, `put_right` has to follow."""
        self._around.enter()
        if tqdm is not None:
            self._bar = tqdm(total=self.steps, unit="step", dynamic_ncols=True)
        self.session.optimizer.train()
        self._until_interrupted()
        run, average = self.run, self.average
        if self._interrupted():
            run.history.interrupted = True
            run.history.stopped = f"interrupted after {run.epoch} epoch{'' if run.epoch == 1 else 's'}"
        complete_state(self.session.optimizer)
        self._over = True
        self._show_what_was_found()
        self.watchers.end(run)
        if self._bar is not None:
            self._bar.close()
        self._around.leave()
        if average is not None:  # last, as nothing that is raised from here on takes it out again
            average.keep()

    def put_right(self) -> None:
        """Leave nothing half done: neither a step, nor an epoch's entry, nor average and weights exchanged."""
        self._settle()
        self._around.leave()

    def end_after(self, error: BaseException) -> None:
        """Tell of the error that ends the run: the history, and all who watch."""
        self.run.history.stopped = f"{type(error).__name__}: {error}"
        with suppress(Exception):  # a class may refuse to have further attributes
            error.history = self.run.history  # type: ignore[attr-defined]
        self.watchers.end_after(error, self.run)
        if self._bar is not None:
            self._bar.close()

    def _settle(self) -> None:
        self.undo.settle()
        if not self._over:
            self._return_to_training()
        elif self.average is not None:
            self.average.take_out()
        self.run.history.truncate(self.run.epoch)

    def _show_what_was_found(self) -> None:
        """Put the average into the model, or the point that a Schedule-Free optimizer has found."""
        if self.average is not None:
            self.average.put_in()
        else:
            self.session.optimizer.eval()

    def _return_to_training(self) -> None:
        if self.average is not None:
            self.average.take_out()
        else:
            self.session.optimizer.train()

    def _until_interrupted(self) -> None:
        run, around = self.run, self._around
        try:
            self.watchers.call("start", run)
            self._meet("the start")
            while run.epoch < run.epochs and not self._ending():
                if not self._one():
                    break
        except KeyboardInterrupt:  # from a callback, or from a custom layer; Ctrl-C itself is only noted
            if around.forced or self._team is not None:
                raise
            around.requested = True
            surely(self._settle)

    def _meet(self, where: str, value: float = 0.0) -> float:
        """Agree with the other processes on whether to end; the first one's ``value``."""
        return value if self._team is None else self._team.meet(where, value)

    def _interrupted(self) -> bool:
        return self._around.requested if self._team is None else self._team.interrupted

    def _ending(self) -> bool:
        """Whether training is to end: what all processes have agreed on, where there are several."""
        if self._team is not None and self._team.stopped is not None:
            self.run.stop(self._team.stopped)
        return self._interrupted() or (self.run.stopping if self._team is None else self._team.stopped is not None)

    def _one(self) -> bool:
        """One epoch, and its entry in the history; or the answer that it was cut short."""
        session, run, norms = self.session, self.run, self.norms
        optimizer = session.optimizer
        started, lr, skipped = time.perf_counter(), optimizer.lr, optimizer.skipped_steps
        if session.is_stale() and self.bind_again is not None:
            self.parts = self.bind_again()
        session.epoch = run.epoch
        session.begin_epoch(self.generator)
        total = self._steps()
        if total is None:
            return False
        session.end_epoch()
        measured = {"loss": total / session.sum_of_weights, "lr": lr, **session.measured()}
        if norms is not None:
            measured["grad_norm"] = in_order(norms.values) / len(norms.values) if norms.values else math.nan
            norms.values.clear()
        if self.on_nonfinite == "skip":
            measured["skipped_steps"] = optimizer.skipped_steps - skipped
            if measured["skipped_steps"] == run.batch and not self._skipped_all:
                self._skipped_all = True
                warn_of_skipped(run.epoch + 1, run.batch)
        self._show_what_was_found()
        measured |= session.validate()
        seconds = self._meet("the end of an epoch", time.perf_counter() - started)
        run.history.append({**measured, "seconds": seconds}, _trust_ratios(optimizer))
        run.epoch += 1
        self.watchers.call("epoch", run)
        self._return_to_training()
        self._meet("after an epoch")
        last = self._ending() or run.epoch == run.epochs
        if self.save is not None and (last or run.epoch % self.save_every == 0):
            complete_state(optimizer)
            if self.saves:
                self.save(run)
        if self._bar is not None:
            self._bar.set_description(f"epoch {run.epoch}/{run.epochs}", refresh=False)
            self._bar.set_postfix({name: measured[name] for name in session.recorded() if name != "lr"})
        return True

    def _steps(self) -> float | None:
        """Go through the data once; the sum of the losses, or None if that was cut short."""
        session, run, watchers, bar = self.session, self.run, self.watchers, self._bar
        total, begin, steps, run.batch = 0.0, 0, 0, 0
        watched = watchers.watches_batches or bar is not None
        for part in self.parts:
            k = 0
            while k < part.steps:
                try:
                    if part.at_once is None or watched:
                        count, value = 1, part.step(k)
                        total += value
                    else:
                        count, total = self._pace.done(part.at_once, k, part.steps - k, total)
                except FloatingPointError as error:
                    if self.on_nonfinite != "stop":
                        raise
                    run.stop(str(error))
                    return None
                steps += count
                k += count
                if watched:
                    run.batch = steps
                    if watchers.watches_batches:
                        run.batch_loss = session.mean_loss(value, begin, part.rows)
                        watchers.call("batch", run)
                        if session.is_stale():
                            raise RuntimeError(
                                "layers were frozen or unfrozen within an epoch: do it where one ends, or at the start"
                            )
                        session.check_weights()
                        self._meet("after a step")
                    if bar is not None:
                        bar.update()
                    begin += part.rows
                if self._ending() and not (part is self.parts[-1] and k == part.steps):
                    return None
        run.batch = steps
        if self._steps_of_epoch not in (None, steps):  # only what comes by itself can
            run.stop(f"the batches ended after {steps} of {self._steps_of_epoch} steps of epoch {run.epoch + 1}")
            return None
        return total


class _Pace:
    """How many steps are done in one call: so many that Ctrl-C does not wait, and other threads do not, for long."""

    def __init__(self) -> None:
        self._most = 1

    def done(self, at_once: Steps, k: int, left: int, total: float) -> tuple[int, float]:
        """Some of the ``left`` steps from number k on: how many, and the sum of their losses beside ``total``."""
        started = time.perf_counter()
        count, total = at_once(k, min(self._most, left), total)
        seconds_each = (time.perf_counter() - started) / count
        self._most = max(1, min(_MOST_AT_ONCE, 2 * self._most, int(_SECONDS_AT_ONCE / max(seconds_each, 1e-9))))
        return count, total


def _trust_ratios(optimizer: Optimizer) -> dict[str, float]:
    """Those of the last step, of an optimizer that has any."""
    if all(RULES[group.rule].direction is None for group in optimizer.groups):
        return {}
    return optimizer.trust_ratios
