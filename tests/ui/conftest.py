"""A made-up run as a list of (time, event), and a made-up run directory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from collapse_sim.core.events import (
    Event,
    GenerationFinished,
    JobFinished,
    JobProgress,
    JobStarted,
    Note,
    RunFinished,
    RunStarted,
    Scored,
    TextSamples,
)
from collapse_sim.ui.frame import frame
from collapse_sim.ui.state import State

NASTY = ("first\nsecond\r\x1b[31mred\x1b[0m\x07 \u202eback [bold]not markup[/bold]", "日本語 👩‍👩‍👧 " * 40, "")

Timed = tuple[float, Event]
START = 1_000_000.0


def story(
    arms: tuple[str, ...] = ("replace", "accumulate", "distill"),
    seeds: tuple[int, ...] = (0, 1, 2),
    generations: int = 3,
    metrics: tuple[str, ...] = ("test_loss", "fid"),
    fit_s: float = 4.0,
    texts: tuple[str, ...] = (),
) -> Iterator[Timed]:
    """A run as the loop tells it: generation 0 is shared by all arms, accumulate's fits take k + 1 times as long."""
    now = START
    better = dict.fromkeys(metrics, True)
    units = {arm: tuple(100 * (k + 1 if arm == "accumulate" else 1) for k in range(generations + 1)) for arm in arms}
    yield now, RunStarted("demo", arms, seeds, generations, metrics, better, "cpu", "fp32", "runs/demo", None, units)
    yield now, JobStarted("data", "data", -1, arms, ())
    now += 0.1
    yield now, JobFinished("data", "data", -1, arms, (), False, 0.1)
    for k in range(generations + 1):
        began, made = now, {"fit": 0, "samples": 0, "scores": 0}
        for kind in ("fit", "samples", "scores"):
            for group in [arms] if k == 0 else [(arm,) for arm in arms]:
                for part in metrics if kind == "scores" else ("",):
                    for seed in seeds:
                        digest = f"{kind}-{k}-{group}-{part}"
                        took = fit_s * (k + 1 if "accumulate" in group and k else 1) if kind == "fit" else 0.5
                        yield now, JobStarted(kind, digest, k, group, (seed,))  # type: ignore[arg-type]
                        if kind == "fit":
                            for tenth in range(1, 11):
                                done, at = tenth * 10, now + took * tenth / 10
                                progress = JobProgress(
                                    kind, digest, k, group, (seed,), done, 100, "steps", 3000.0, 1 / done
                                )
                                yield at, progress
                        now += took
                        yield now, JobFinished(kind, digest, k, group, (seed,), False, took)  # type: ignore[arg-type]
                        made[kind] += 1
        for i, arm in enumerate(arms):
            values = {metric: tuple(1 + i * k + 0.5 * seed for seed in seeds) for metric in metrics}
            yield now, Scored(k, arm, seeds, values)
            if texts:
                yield now, TextSamples(k, arm, tuple(f"{arm} {k}: {text}" if text else "" for text in texts))
        if k == 1:
            yield now, Note("a setting has no effect: \x1b[31mred\x1b[0m\nsecond line")
        yield now, GenerationFinished(k, made, {"fit": 0, "samples": 0, "scores": 0}, now - began)
    yield now, RunFinished("demo", "runs/demo", now - START, "finished")


def reduced(timed: list[Timed]) -> State:
    """The state after some events."""
    state = State()
    for now, event in timed:
        state.apply(event, now)
    return state


@pytest.fixture
def tell() -> Callable[..., list[Timed]]:
    """story() as a list."""
    return lambda **settings: list(story(**settings))


@pytest.fixture
def reduce() -> Callable[[list[Timed]], State]:
    return reduced


@pytest.fixture
def draw() -> Callable[..., str]:
    """The frame as text, with the escape codes of a terminal when `color`."""

    def text(
        state: State, width: int, height: int, *, color: bool = False, encoding: str = "utf-8", **more: Any
    ) -> str:
        raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
        console = Console(
            file=raw, width=width, height=height, force_terminal=color, color_system="truecolor" if color else None,
            no_color=more.pop("no_color", None),
        )  # fmt: skip
        console.print(frame(state, width, height, now=more.pop("now", state.updated), **more))
        raw.flush()
        return raw.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]

    return text


def started(seeds=(0, 1, 2), arms=("a", "b"), generations=2, metrics=("loss",), show=None):
    better = dict.fromkeys(metrics)
    return RunStarted("r", arms, seeds, generations, metrics, better, "cpu", "fp32", "runs/r", show)


def after(*events, now=100.0):
    state = State()
    for event in events:
        state.apply(event, now)
    return state
