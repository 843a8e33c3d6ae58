"""Steps 9 and 10 of a run: the epochs, and the end."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from msft_core.engine.follow import select
from msft_core.errors import MsftError, first_line, in_a_line
from msft_core.system.agreeing import check_after_step
from msft_core.system.display import Outcome, TrainingView
from msft_core.system.interrupts import Interrupts
from msft_core.system.log_file import LogFile
from msft_core.types import EpochRecord, Reporter, RunReport

if TYPE_CHECKING:
    from msft_core.engine.asking import Strategy
    from msft_core.runs.live import LiveRun
    from msft_core.runs.saving import Phase


def train_to_the_end(
    run: LiveRun,
    strategy: Strategy,
    interrupts: Interrupts,
    view: TrainingView,
    log: LogFile,
    began: float,
    remembered: Mapping[str, Mapping[str, Any]],
) -> RunReport:
    """Steps 9 and 10. Step 10 is done even if step 9 fails or is interrupted.

    Args:
        run: begins, or goes on where its state is.
        strategy: is asked before each epoch.
        interrupts: are only noted when this is called.
        view: shows the training.
        log: receives the end of the run.
        began: ``time.perf_counter()`` at the start of the run.
        remembered: what plugins kept, in a run that goes on.

    Raises:
        MsftError: the run failed; its ``report`` says how it ended.
        KeyboardInterrupt: with the report.
    """
    error: BaseException | None = None
    try:
        epochs = run.config.training.epochs
        view.begin(epochs)
        interrupts.resume()
        run.call("on_run_start")
        run.load_plugin_states(remembered)
        # 9: the epochs. In step 8 the strategy was asked for the one that begins or goes on.
        if run.awaits_callbacks:
            view.begin_epoch(run.state.epoch)
            _call_back(run.state.epoch, run, interrupts, view)
        for epoch in range(run.state.epoch + 1, epochs + 1):
            if run.state.stop_reason:
                break
            if epoch > strategy.asked:
                with interrupts.held():
                    run.group.tell("select", epoch=epoch)
                    select(run, strategy, epoch)
            _train(epoch, run, interrupts, view)
            _call_back(epoch, run, interrupts, view)
        if run.state.stop_reason:
            run.reporter.info(f"Stopped after epoch {run.state.epoch}: {run.state.stop_reason}")
    except (Exception, KeyboardInterrupt) as caught:
        error = caught
    finally:
        interrupts.note()

    # 10: last.ckpt, the best checkpoint again, and the end. Whatever fails, the rest is done, and
    # signals are only noted, except while predictions are made and in plugins.
    def first_error(do: Callable[[], object]) -> BaseException | None:
        return _caught(do, error, interrupts, run.reporter)

    error = first_error(view.finishing)
    if isinstance(error, KeyboardInterrupt) and run.is_ahead_of_state:
        phase: Phase = "trained" if run.awaits_callbacks else "within"
        error = first_error(lambda: run.save_state(phase))
    if error is None or isinstance(error, KeyboardInterrupt):
        error = first_error(run.save_last)
    if run.best:
        error = first_error(run.reload_best)
    if run.best:

        def write_predictions() -> None:
            with interrupts.heeded():
                run.write_predictions()

        error = first_error(write_predictions)

    seconds = time.perf_counter() - began  # once, so that a report written late says the same

    def write_environment(complete: bool = False) -> None:
        from msft_core.engine.environment import ending

        content = ending(run, _report(run, error), log.warnings, seconds, complete)
        run.write_environment(content)

    error = first_error(write_environment)
    report = _report(run, error)
    told = len(log.warnings)
    for failure in run.call_guarded("on_run_end", report=report, error=error):
        if failure is not None and error is None:
            error = failure
            report = _report(run, error)
            told = -1
        elif failure is not None and not isinstance(failure, KeyboardInterrupt):
            run.reporter.warning(str(failure))
        if told != len(log.warnings):  # at once: a later plugin may show how the run ended
            told = len(log.warnings)
            with suppress(Exception):
                write_environment()
    if error is None:
        # Not before: a run that is killed while its pictures are drawn has to draw them again.
        error = first_error(lambda: write_environment(complete=True))
        report = _report(run, error)
    run.feed.close()
    view.close()
    # The user gets the end of a run from whoever called it. The log has it too.
    if isinstance(error, KeyboardInterrupt):
        log.write("interrupted.")
        raise KeyboardInterrupt(report) from None
    if error is not None:
        log.write("".join(traceback.format_exception(error)).rstrip())
        if not isinstance(error, MsftError):
            error = MsftError(in_a_line(error)).with_traceback(error.__traceback__)
        error.report = report
        log.write(f"error: {error}")
        raise error
    return report


def _caught(
    do: Callable[[], object],
    error: BaseException | None,
    interrupts: Interrupts,
    reporter: Reporter,
) -> BaseException | None:
    """Do something; the first error of all, if there is any. A noted signal is one.

    A further error is a warning.
    """
    try:
        do()
        interrupts.check()
    except (Exception, KeyboardInterrupt) as caught:
        if error is not None and not isinstance(caught, KeyboardInterrupt):
            reporter.warning(first_line(caught))
        return error or caught
    return error


def _train(epoch: int, run: LiveRun, interrupts: Interrupts, view: TrainingView) -> None:
    """Train an epoch, or what is left of one."""
    from msft_core.data.pipeline import Use

    part = run.state.part
    began = time.perf_counter() - part.seconds

    def between() -> None:
        part.seconds = time.perf_counter() - began
        check_after_step(run.group, interrupts)
        run.save_state_now_and_then()

    # In one block: of several processes none may leave the others before the first step.
    with interrupts.held():
        view.begin_epoch(epoch)
        run.group.tell("train", epoch=epoch)
        run.prepare_training(epoch)
        if run.group.size == 1:
            interrupts.check()
        train = run.feed.pipeline(Use.TRAINING)
        started, done = time.perf_counter(), part.steps
        compiles = run.trainer.compiles_next
        with view.training(train.steps() - done, compiles) as step:
            run.forget()  # from the first step on the weights are others
            result = run.trainer.train_epoch(train, epoch, between, step)
        ended = time.perf_counter()
        run.begin_epoch_end(
            EpochRecord(
                epoch,
                {"loss": result.loss},
                learning_rate=result.learning_rate,
                seconds=ended - began,
                step_ms=1000 * (ended - started) / max(1, result.steps - done),
            )
        )
        run.save_state("trained")
    run.save_last_now_and_then()


def _call_back(epoch: int, run: LiveRun, interrupts: Interrupts, view: TrainingView) -> None:
    """Let plugins evaluate the epoch, and write what came of it."""
    best_before = run.best
    run.call("on_epoch_end", epoch=epoch)
    record = run.finish_epoch_end()
    run.save_state("end")
    with interrupts.held():
        view.end_epoch(record, run.best, run.best is not best_before)


def _report(run: LiveRun, error: BaseException | None) -> RunReport:
    status: Literal["completed", "stopped", "interrupted", "failed"] = "completed"
    reason = run.state.stop_reason
    if isinstance(error, KeyboardInterrupt):
        status, reason = "interrupted", "interrupted by the user"
    elif error is not None:
        status, reason = "failed", str(error) if isinstance(error, MsftError) else first_line(error)
    elif reason:
        status = "stopped"
    return RunReport(status, run.folder, run.best, tuple(run.history), reason)


def conclude(
    run: LiveRun, report: RunReport, seconds: float, view: TrainingView, log: LogFile
) -> None:
    """Show the summary of a run that has come to its end."""
    view.conclude(
        Outcome(
            report,
            epochs=run.config.training.epochs,
            seconds=seconds,
            training=len(run.splits.train.ids),
            validation=len(run.splits.val.ids),
            classes=len(run.splits.classes),
            engine=run.engine,
            warnings=len(log.warnings),
        )
    )
