"""Progress: what is counted from the states of cohorts, and how it looks in a terminal, a file and a notebook."""

import io
import itertools
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from sac_bench.execution.calibration import Basis, Estimate
from sac_bench.execution.cost import START_SECONDS
from sac_bench.execution.display import GROWTH, Block, Cell, Display, Lines, place_of, signs_of
from sac_bench.execution.plan import CohortPlan
from sac_bench.execution.progress import (
    ASCII,
    MAX_ROWS,
    SPARKLINE_PARTS,
    Signs,
    block,
    compiling,
    progress,
    report,
    sparkline,
)
from sac_bench.execution.work import State

ENV = "InvertedPendulum-v5"


def runs(*ids, env=ENV, algorithm="sac"):
    return tuple(SimpleNamespace(id=one, env=env, algorithm=algorithm) for one in ids)


def cohort(*ids, steps=1200, done=0, env=ENV):
    return CohortPlan("-".join(ids), runs(*ids, env=env), steps, done)


NAMES = {"a0": "sac", "a1": "sac", "b0": "one-q", "b1": "one-q", "c0": "td3"}
STATES = (
    State(cohort("a0", "b0"), "training", 600, 80.0),
    State(cohort("a1", "b1", steps=2400, done=1200), "finished", 2400),
    State(cohort("c0"), "compiling", 0, seconds=5.0),
)
RETURNS = {"a0": {0: 10.0, 100: 20.0, 600: 40.0}, "a1": {1200: 60.0}, "b0": {0: 0.0}}


def now(states=STATES, elapsed=120.0, left=None):
    return progress(states, NAMES, RETURNS, elapsed, left)


def test_variants_are_counted_by_name_across_cohorts():
    whole = now()
    assert [row.name for row in whole.rows] == ["sac", "one-q", "td3"]
    assert [dict(row.phases) for row in whole.rows] == [{"training": 1, "finished": 1}] * 2 + [{"compiling": 1}]
    assert [row.phase for row in whole.rows] == ["training", "training", "compiling"]
    assert dict(whole.phases) == {"training": 2, "compiling": 1, "finished": 2}
    assert whole.rate == 80.0
    assert whole.compiling == 5.0


def test_progress_is_a_share_of_the_transitions_to_be_made():
    whole = now()
    assert whole.share == pytest.approx((2 * 600 + 2 * 1200 + 0) / (5 * 1200))
    assert [row.share for row in whole.rows] == pytest.approx([0.75, 0.75, 0.0])
    assert now((State(cohort("a0", done=600), "waiting", 900),)).share == 0.5
    early = State(cohort("a0"), "finished", 300)  # it diverged
    assert now((early,)).share == 1.0


def test_a_curve_has_the_mean_return_per_part_of_the_steps_and_fills_gaps():
    sac, one_q, td3 = now().rows
    assert sac.curve == (15.0, 15.0, 15.0, 15.0, 15.0, 50.0)  # 600 of 1200 and 1200 of 2400 are one part
    assert sac.last == 50.0
    assert one_q.curve == (0.0,)
    assert (td3.curve, td3.last) == ((), None)
    resumed = progress(STATES[:1], NAMES, {"a0": {250: 1.0}}, 0.0, None).rows[0]
    assert resumed.curve == (None, None, 1.0)


def test_failed_runs_do_not_count_as_finished():
    some = State(cohort("a0", "a1"), "finished", 1200, failed=frozenset({"a1"}))
    (row,) = now((some,)).rows
    assert dict(row.phases) == {"failed": 1, "finished": 1}
    assert row.phase == "failed"


def test_a_sparkline_has_the_levels_of_its_scale():
    assert sparkline([0.0, None, 35.0, 70.0], 0.0, 70.0, Signs()) == "▁ ▅█        "
    assert sparkline([5.0], 5.0, 5.0, ASCII) == "_".ljust(SPARKLINE_PARTS)


def test_compiling_shows_its_usual_time_and_then_its_elapsed_time():
    assert compiling(3.0) == "compiling, about 25 s, once per structure"
    assert compiling(START_SECONDS + 75).startswith("compiling for 2 min; once per structure")


BLOCK = """\
━━━━━━━━━━━━━━━━━━━━━──────────────  60%  2 min elapsed, time left not known yet
2 of 5 runs finished, 2 training at 80 steps/s, 1 compiling
compiling, about 25 s, once per structure
  variant  finished  returns       last
  sac        1 of 2  ▃▃▃▃▃█        50.0  training 75%
  one-q      1 of 2  ▁              0.0  training 75%
  td3        0 of 1                      compiling"""


def test_the_block_of_a_terminal_has_a_line_per_variant():
    lines = block(now(), 80, Signs())
    assert "\n".join(lines) == BLOCK
    assert max(map(len, lines)) == 80


def test_the_time_left_is_shown_with_its_basis():
    line = block(now(left=Estimate(1500.0, Basis.SIMILAR)), 80, ASCII)[0]
    assert line == "############---------  60%  2 min elapsed, about 25 min left (from similar runs)"


def test_the_report_in_a_file_names_the_variants_in_training():
    lines = report(now(), ASCII)
    assert lines[0] == "60% of the steps; 2 min elapsed, time left not known yet"
    assert [line.split()[0] for line in lines[3:]] == ["variant", "sac", "one-q", "td3"]
    ended = report(now((State(cohort("c0"), "finished", 1200),)), ASCII)
    assert ended == ["100% of the steps; 2 min elapsed", "1 of 1 run finished"]


def test_many_variants_fit_into_a_block_with_active_ones_first():
    names = {f"{i}": f"a-variant-with-a-name-that-is-quite-long={i}" for i in range(40)}
    states = [State(cohort(run), "finished" if int(run) < 30 else "training", 1200) for run in names]
    lines = block(progress(states, names, {}, 1.0, None), 80, Signs())
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 80
    assert sum("training" in line for line in lines[2:-1]) == MAX_ROWS - 1
    assert lines[-1] == "  and 31 other variants (runs: 1 training, 30 finished)"
    assert all(f"=3{i}" in line for i, line in enumerate(lines[3:-1]))  # both ends of a name are kept


def test_a_file_gets_lines_at_growing_intervals_and_no_control_codes():
    file = io.StringIO()
    console = Console(file=file, width=80, markup=False)
    shown = Display(console)
    assert isinstance(place_of(console), Lines)
    times = []
    for second in range(20_000):
        before = file.tell()
        shown.show(float(second), lambda second=second: now(elapsed=float(second)))
        times += [second] * (file.tell() > before)
    shown.close()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert (times[0], gaps[0], gaps[-1]) == (30, 30, 600)
    assert gaps == sorted(gaps)
    assert all(gap <= max(30, GROWTH * at + 1) for gap, at in zip(gaps, times, strict=False))
    assert "\x1b" not in file.getvalue()


def terminal(**more):
    file = io.StringIO()
    return file, Console(file=file, force_terminal=True, width=80, height=30, markup=False, **more)


def test_a_terminal_has_one_block_and_permanent_lines_above_it():
    file, console = terminal()
    shown = Display(console)
    assert isinstance(shown._place, Block)
    shown.show(0.0, now)
    shown.say("trained 2 runs")
    shown.close()
    text = file.getvalue()
    assert "once per structure" in text
    assert "trained 2 runs" in text
    assert text.rstrip().endswith("\x1b[2K")  # the block is erased


def test_progress_is_computed_only_when_it_is_shown():
    computed = []

    def counting():
        computed.append(1)
        return now()

    for console, times in ((terminal()[1], 3), (Console(file=io.StringIO(), width=80), 0)):
        shown = Display(console)
        for event in range(100):
            shown.show(event / 80, counting)
        shown.close()
        assert len(computed) == times
        computed.clear()


def test_no_color_suppresses_all_codes_of_colours(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    file, console = terminal()
    shown = Display(console)
    shown.show(0.0, now)
    shown.close()
    assert "sac" in file.getvalue()
    assert "\x1b[3" not in file.getvalue()


def test_a_quiet_console_prints_nothing():
    file, console = terminal(quiet=True)
    shown = Display(console)
    shown.show(1e6, now)
    shown.say("trained")
    shown.close()
    assert file.getvalue() == ""


def test_signs_are_limited_to_the_encoding():
    assert signs_of(Console(file=io.TextIOWrapper(io.BytesIO(), "ascii"))) is ASCII
    assert signs_of(Console(file=io.TextIOWrapper(io.BytesIO(), "utf-8"))) == Signs()
    assert "".join(block(now(), 80, ASCII)).isascii()


def test_a_notebook_has_one_output_that_is_replaced(monkeypatch):
    shown = []
    handle = SimpleNamespace(update=lambda data, raw: shown.append(("update", data["text/plain"], raw)))

    def display(data, raw, display_id):
        shown.append(("display", data["text/plain"], raw))
        return handle

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    cell = place_of(Console(file=io.StringIO(), force_jupyter=True))
    assert isinstance(cell, Cell)
    for _ in range(3):
        cell.show(now())
    cell.close()
    assert [how for how, *_ in shown] == ["display", "update", "update"]
    assert all(raw for *_, raw in shown)
    assert "1 of 2  ▃▃▃▃▃█" in shown[0][1]


def test_a_notebook_keeps_the_final_state(monkeypatch):
    shown = []
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))
    show = SimpleNamespace(display=lambda data, raw, display_id: shown.append(data["text/plain"]) or handle)
    monkeypatch.setitem(sys.modules, "IPython.display", show)
    finished = tuple(replace(one, phase="finished") for one in STATES)
    cell = Display(Console(file=io.StringIO(), force_jupyter=True))
    cell.finish(lambda: now(finished))  # nothing was trained
    assert shown == []
    cell.show(0.0, now)
    cell.finish(lambda: now(finished))
    first, second, *_ = shown[-1].split("\n")
    assert first.endswith("100%  2 min elapsed")
    assert second.startswith("5 of 5 runs finished")
    file, console = terminal()
    block_ = Display(console)
    block_.finish(lambda: now(finished))
    block_.close()
    assert "5 of 5" not in file.getvalue()
