"""The command line. Thin: it parses, calls and prints; modules that take long to import are imported late."""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table

from sac_bench.envs import output
from sac_bench.errors import InputError, one_line, redacted
from sac_bench.execution.guardian import no_child_left

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Which part of Soft Actor-Critic matters? Experiments in, answers with error bars out.",
)
console = Console(markup=False, emoji=False)  # what users write is shown as it is
USAGE_ERROR = typer.BadParameter.__mro__[1]
INTERRUPTED = 130  # what typer returns for a KeyboardInterrupt

ImportOption = Annotated[
    list[str],
    typer.Option(
        "--import", metavar="MODULE", help="Registers one's own Gymnasium environments or algorithms. Repeatable."
    ),
]
ResultsOption = Annotated[Path, typer.Option("--results", metavar="DIR", help="The results folder.")]


@contextmanager
def user_errors() -> Iterator[None]:
    """An InputError is one line on standard error and exit code 2; a full disk or the like, 1."""
    try:
        with output.logged():
            yield
    except InputError as error:
        print(f"sac-bench: {redacted(str(error))}", file=sys.stderr)
        raise typer.Exit(2) from None
    except OSError as error:
        print(f"sac-bench: {redacted(one_line(f'{error.filename}: {error.strerror or error}'))}", file=sys.stderr)
        senseless = error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR)  # the errors of a path that makes no sense
        raise typer.Exit(2 if senseless else 1) from None


@app.command()
def run(
    experiments: Annotated[
        list[Path], typer.Argument(help="Experiment files, as in experiments/, or folders of them.")
    ],
    quick: Annotated[bool, typer.Option("--quick", help="By the files' [quick] tables, as NAME-quick.")] = False,
    seeds: Annotated[Optional[int], typer.Option(metavar="N", help="Seeds 0 to N-1.")] = None,
    steps: Annotated[Optional[int], typer.Option(metavar="N", help="Transitions per run.")] = None,
    env: Annotated[list[str], typer.Option(metavar="ID", help="Environment, in place of the file's. Repeatable.")] = [],  # noqa: B006
    variant: Annotated[list[str], typer.Option(metavar="NAME", help="Only this variant. Repeatable.")] = [],  # noqa: B006
    set_: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A base option. Repeatable.")] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[Optional[int], typer.Option(metavar="N", help="Processes; one per core if not given.")] = None,
    results: ResultsOption = Path("results"),
    name: Annotated[Optional[str], typer.Option(help="Write to results/NAME instead of the file's name.")] = None,
    import_: ImportOption = [],  # noqa: B006
    keep_replay: Annotated[bool, typer.Option(help="Keep what continuing finished runs would need.")] = False,
    retrain: Annotated[bool, typer.Option(help="Train again what cannot be continued.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files too, when all is done.")
    ] = False,
) -> None:
    """Train what experiments lack, then write their tables, figures and reports. Runs that several share train once.

    Exit code: 0 when every run ended (one that diverged has ended, and is counted so), 1 when some failed, 2 for bad
    input, 130 when interrupted.
    """
    with user_errors():
        _import(import_)
        from sac_bench.execution import plan as planning
        from sac_bench.execution.machine import available_memory, cores, resolve_device
        from sac_bench.execution.warm_start import settle
        from sac_bench.results import tensorboard as events
        from sac_bench.results.results import runs_of
        from sac_bench.spec import experiment as loading
        from sac_bench.spec.includes import files as experiment_files
        from sac_bench.store.store import ENDED, Store

        if workers is not None and not 1 <= workers <= 1024:
            raise InputError(f"--workers {workers}: wants 1 to 1024")
        if tensorboard:
            events.check_installed()
        files = experiment_files(experiments)
        if name is not None and len(files) > 1:
            raise InputError(f"--name {name}: is of one experiment, and there are {len(files)}")
        asked = loading.ExperimentGroup(
            tuple(
                loading.load(
                    file, seeds=seeds, steps=steps, envs=env, variants=variant, settings=set_, name=name, quick=quick
                )
                for file in files
            )
        )
        if again := [n for n, times in Counter(one.name for one in asked.experiments).items() if times > 1]:
            raise InputError(f"{again[0]}: two of the files have this name, and would write to one folder")
        chosen = resolve_device(device)
        workers = workers or (min(cores(), len({spec.id for _, spec in asked.runs()})) if chosen == "cpu" else 1)
        store = Store(results)
        store.check_layout()
        for one in asked.experiments:
            store.check_writable(one.name)
        memory = 0.9 * available_memory(chosen) / workers
        tried: set[str] = set()
        make_plan = loading.located(asked.source)(
            lambda: planning.make_plan(asked, store, workers, memory, chosen, retrain, skip=tried)
        )
        if dry_run or not store.root.exists():  # what cannot be done is refused before anything is written
            plan = make_plan()
        if dry_run:
            _say_plan(asked, plan, store, workers, chosen)
            return
        output.keep_in(store.environment_log)
        command = redacted(_command_line())
        try:
            with store.planner() as planner:
                more = True
                while more:  # the runs whose start has not ended yet are of a later plan
                    with store.planning():
                        plan = make_plan()
                        planning.write(plan, store, planner, keep_replay)
                    _say_plan(asked, plan, store, workers, chosen)
                    if plan.cohorts:
                        _train(asked, plan, store, workers, chosen, import_, command)
                    tried.update(spec.id for cohort in plan.cohorts for spec in cohort.runs)
                    more = settle(plan.waiting, store)
            if len(files) == 1:
                pages = {one.name: _report(one, store, command) for one in asked.experiments}
            else:
                pages = {one.name: _reported_or_why(one, store, command) for one in asked.experiments}
                others = [found for found in _reported(store.root) if found not in pages]
                _write_index(store.root, pages | _reports(store.root, others))
            if tensorboard:
                for one in asked.experiments:
                    console.print(f"events: {events.write_events(store.experiment(one.name))}", soft_wrap=True)
        except KeyboardInterrupt:
            print(f"sac-bench: {_count(runs_of(store, asked))}; continue with: {command}", file=sys.stderr)
            raise
        if broken := [f"{name}: {page}" for name, page in pages.items() if isinstance(page, str)]:
            raise InputError("; ".join(broken))
        if not set(runs_of(store, asked)["status"]) <= set(ENDED):
            raise typer.Exit(1)


def _train(asked: Any, plan: Any, store: Any, workers: int, device: str, imports: list[str], command: str) -> None:
    """Carry out a plan."""
    from sac_bench.execution.engine import Engine
    from sac_bench.execution.machine import cannot_compile
    from sac_bench.execution.progress import Display
    from sac_bench.results.results import collect

    eager = cannot_compile()
    if eager:
        console.print(eager, highlight=False, soft_wrap=True)
    for one in asked.experiments:  # from now on the folder knows which runs it refers to
        collect(store, one, command, examined=False)
    Engine(plan, store, device=device, workers=workers, imports=imports, display=Display(console, workers)).run()


def _count(runs: Any) -> str:
    """Where runs stand: "3 finished, 2 interrupted (at 10,000 to 20,000 steps)"."""
    words, runs = [], runs.drop_duplicates("run_id")
    for standing, steps in runs.groupby("status", sort=False)["steps"]:
        low, high = steps.min(), steps.max()
        between = f"{low:,} to {high:,}" if low < high else f"{low:,}"
        words.append(f"{len(steps)} {standing}" + (f" (at {between} steps)" if high and standing != "finished" else ""))
    return ", ".join(words)


def _reported_or_why(asked: Any, store: Any, command: str) -> Any:
    """One report of several: its page, or why there is none, so that the others are made."""
    try:
        return _report(asked, store, command, alone=False)
    except InputError as error:
        return str(error)


def _report(asked: Any, store: Any, command: str, alone: bool = True) -> Any:
    """Write and show it, in a few lines unless it is alone; its page."""
    from sac_bench.report.experiment import write_report
    from sac_bench.results.results import collect, measure_random_policies

    started = {spec.env for _, spec in asked.runs() if store.run(spec.id).status()["steps"]}
    for complaint in measure_random_policies(store, sorted(started)):
        console.print(complaint, highlight=False, soft_wrap=True)
    results = collect(store, asked, command)
    folder = store.experiment(asked.name)
    page = write_report(folder)
    if alone:
        console.print((folder / "tables" / "final.txt").read_text(encoding="utf-8"), highlight=False, soft_wrap=True)
    else:
        console.print(f"\n{asked.name}: {page.question}", highlight=False, soft_wrap=True)
    if asked.claim or not alone:
        console.print("\n".join(page.answer), highlight=False, soft_wrap=True)
    console.print(_count(results.runs), highlight=False)
    console.print(f"report: {folder / 'report.html'}   figures: {folder / 'figures'}", highlight=False, soft_wrap=True)
    return page


def _say_plan(asked: Any, plan: Any, store: Any, workers: int, device: str) -> None:
    from sac_bench.envs.checking import objection
    from sac_bench.execution.checkpoint import CohortDirectory
    from sac_bench.execution.cost import duration, member_bytes
    from sac_bench.execution.plan import superseded

    fresh = sum(len(c.runs) for c in plan.cohorts if c.is_new)
    going_on = sum(len(c.runs) for c in plan.cohorts if not c.is_new)
    words = [f"{fresh} new", f"{len(plan.reused)} reused", f"{going_on} to be continued"]
    if plan.diverged:
        words.append(f"{len(plan.diverged)} diverged (not trained again)")
    if plan.raised:
        words.append(f"{len(plan.raised)} failed in their environment (not trained again; --retrain does)")
    if plan.waiting:
        words.append(f"{len(plan.waiting)} after those they start from")
    for one in asked.experiments:
        console.print(one_line(f"{one.name}: {one.question}" if one.question else one.name), highlight=False)
    console.print(f"runs: {', '.join(words)}", highlight=False)
    for (on, difference), count in superseded(asked, store).items():
        were, they = ("were", "they are") if count > 1 else ("was", "it is")
        console.print(
            f"{_counted(count, 'run')} of {on} {were} trained with {difference}; {they} kept and not used",
            highlight=False,
            soft_wrap=True,
        )
    if not plan.cohorts:
        return
    for env in dict.fromkeys(c.runs[0].env for c in plan.cohorts):
        if objected := objection(env):
            line = one_line(f"{env}: used, though Gymnasium's check_env objects: {objected}")
            console.print(line, highlight=False, soft_wrap=True)
    table = Table("cohort", "environment", "runs", "steps", "from", "time", "memory")
    for c in plan.cohorts:
        table.add_row(
            c.id[:8],
            c.runs[0].env,
            str(len(c.runs)),
            f"{c.steps:,}",
            f"{c.done:,}",
            duration(c.seconds),
            f"{c.memory_bytes / 1e9:.1f} GB",
        )
    console.print(table)
    concurrent = sorted((c.memory_bytes for c in plan.cohorts), reverse=True)[:workers]
    disk = sum(len(c.runs) * member_bytes(c.runs[0], c.steps) for c in plan.cohorts)
    disk -= sum(CohortDirectory(store.cohort(c.id)).size() for c in plan.cohorts if not c.is_new)
    console.print(
        f"{_counted(len(plan.cohorts), 'cohort')} on {_counted(workers, f'{device} worker')}: roughly "
        f"{duration(plan.seconds(workers))}, up to {sum(concurrent) / 1e9:.1f} GB of memory and "
        f"{max(disk, 0) / 1e9:.1f} GB of disk while training",
        highlight=False,
    )


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"


@app.command()
def tune(
    study: Annotated[Path, typer.Argument(help="A study file, as in experiments/tuning/.")],
    storage: Annotated[
        Optional[str],
        typer.Option(
            metavar="URL",
            help="sqlite:///, postgresql:// or mysql://; a journal beside the results if not given.",
            envvar="SAC_BENCH_STORAGE",
            show_envvar=True,
        ),
    ] = None,
    trials: Annotated[Optional[int], typer.Option(metavar="N", help="Trials in all, in place of the file's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[Optional[int], typer.Option(metavar="N", help="Processes; one per core if not given.")] = None,
    results: ResultsOption = Path("results"),
    import_: ImportOption = [],  # noqa: B006
    retrain: Annotated[bool, typer.Option(help="Train again what cannot be continued.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only check the file, and say what would be searched.")] = False,
) -> None:
    """Search for hyperparameters, then check the best on held-out seeds. Any number of processes share a study.

    Exit code: 0 when every trial ended and the best were checked, 1 when runs failed, 2 for bad input, 130 when
    interrupted. The same command continues.
    """
    with user_errors():
        _import(import_)
        from sac_bench.execution.machine import cannot_compile, cores, resolve_device
        from sac_bench.store.store import Store
        from sac_bench.tuning import study as studies

        if workers is not None and not 1 <= workers <= 1024:
            raise InputError(f"--workers {workers}: wants 1 to 1024")
        asked = studies.load(study, trials)
        chosen = resolve_device(device)
        store = Store(results)
        store.check_layout()
        store.check_writable(asked.name)
        console.print(one_line(f"{asked.name}: {asked.question}" if asked.question else asked.name), highlight=False)
        if dry_run:
            console.print(studies.in_words(asked), highlight=False, soft_wrap=True)
            return
        from sac_bench.tuning.storage import hidden_in
        from sac_bench.tuning.tune import tune as carry_out

        if eager := cannot_compile():
            console.print(eager, highlight=False, soft_wrap=True)
        output.keep_in(store.environment_log)
        command = redacted(hidden_in(_command_line(), storage))
        try:
            succeeded = carry_out(
                asked,
                store,
                storage=storage,
                device=chosen,
                workers=workers or (cores() if chosen == "cpu" else 1),
                imports=import_,
                retrain=retrain,
                console=console,
                command=command,
            )
        except KeyboardInterrupt:
            print(f"sac-bench: continue with: {command}", file=sys.stderr)
            raise
        if not succeeded:
            raise typer.Exit(1)


@app.command(name="list")
def list_(
    what: Annotated[
        str, typer.Argument(help="experiments, algorithms, environments; all three if not given. Or results.")
    ] = "all",
    folder: Annotated[Path, typer.Option(help="Where experiment files lie.")] = Path("experiments"),
    results: ResultsOption = Path("results"),
    import_: ImportOption = [],  # noqa: B006
) -> None:
    """List experiments, algorithms with every option, environments, and which results are superseded."""
    with user_errors():
        _import(import_)
        from sac_bench.cli import inspect

        known = ("experiments", "algorithms", "environments", "results")
        if what not in (*known, "all"):
            from sac_bench.errors import nearest

            raise InputError(f"list {what}: wants {', '.join(known)}{nearest(what, known)}")
        if what in ("experiments", "all"):
            console.print(inspect.experiments(folder))
        if what in ("algorithms", "all"):
            console.print(*inspect.algorithms())
        if what == "results":
            console.print(inspect.results(results))
        if what in ("environments", "all"):
            console.print(inspect.environments(full=what == "environments"), highlight=False)


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="An experiment's name, or its file.")],
    results: ResultsOption = Path("results"),
    import_: ImportOption = [],  # noqa: B006
) -> None:
    """Say where an experiment's runs stand."""
    with user_errors():
        _import(import_)
        from sac_bench.store.store import Store

        if (Path(name) / "experiment.json").exists():  # a result's folder
            results, name = Path(name).parent, Path(name).name
        experiment = _experiment_of(name, results)
        store, recorded = Store(results), 0
        table = Table("variant", "environment", "seeds", "standing", "steps", title=experiment["name"])
        counts: Counter[str] = Counter()
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for variant, env, run_id, target, *record in experiment["runs"]:
            state = store.run(run_id).status() | {"target": target}
            standing = store.standing(state, target)
            if state["status"] == "new" and record[:1] not in ([], ["not started"]):  # a record goes without its store
                standing, state["steps"] = record
                recorded += 1
            counts[standing] += 1
            groups.setdefault((variant, env), []).append(state | {"standing": standing})
        for (variant, env), states in groups.items():
            standing = ", ".join(f"{n} {s}" for s, n in Counter(s["standing"] for s in states).items())
            steps = min(s["steps"] for s in states)
            table.add_row(variant, env, str(len(states)), standing, f"{steps:,} of {states[0]['target']:,}")
        console.print(table)
        console.print(", ".join(f"{n} {s}" for s, n in counts.items()), highlight=False)
        if recorded:
            said = f"{recorded} of {counts.total()} runs are not in {results / 'runs'}; they stand as in "
            console.print(said + str(results / name / "runs.csv"), highlight=False, soft_wrap=True)
        if experiment.get("superseded"):
            console.print(experiment["superseded"], highlight=False, soft_wrap=True)


def _experiment_of(name: str, results: Path) -> dict[str, Any]:
    """An experiment as last run, or from its file when it never was."""
    from sac_bench.spec.experiment import load

    if (results / name / "experiment.json").exists():
        from sac_bench.results.results import about, load_results, superseded

        columns = load_results(name, results).runs[["variant", "env", "run_id", "target_steps", "status", "steps"]]
        runs = list(columns.itertuples(index=False, name=None))
        return {"name": name, "runs": runs, "superseded": superseded(about(results / name))}
    found = [] if name.endswith(".toml") else sorted(Path("experiments").rglob(f"{Path(name).name}.toml"))
    file = Path(name) if name.endswith(".toml") else (found or [Path("experiments") / f"{name}.toml"])[0]
    if not file.exists():
        from sac_bench.errors import nearest

        known = [p.parent.name for p in results.glob("*/experiment.json")] + [
            p.stem for p in file.parent.rglob("*.toml")
        ]
        raise InputError(f"{name}: no such experiment in {results} or {file.parent}{nearest(name, known)}")
    loaded = load(file)
    return {"name": loaded.name, "runs": [(v.name, s.env, s.id, v.steps[s.env]) for v, s in loaded.runs()]}


@app.command()
def report(
    names: Annotated[Optional[list[str]], typer.Argument(help="Experiments; all in the folder if not given.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All in the folder, as without names.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's event files too.")] = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Make tables, figures and reports again from experiments' CSV files, without training; of all, an index too."""
    with user_errors():
        from sac_bench.errors import nearest
        from sac_bench.results.tensorboard import check_installed

        if tensorboard:
            check_installed()
        if names and all_:
            raise InputError(f"report {names[0]} --all: wants names or --all")
        found = _reported(results)
        if not found:
            raise InputError(f"{results}: no results there yet; sac-bench run makes them")
        for name in names or []:
            if name not in found:
                raise InputError(f"{name}: no such experiment in {results}{nearest(name, found)}")
        pages = _reports(results, names or found, tensorboard)
        if not names:
            _write_index(results, pages)
        if broken := [page for page in pages.values() if isinstance(page, str)]:
            raise InputError("; ".join(broken))


def _reported(results: Path) -> list[str]:
    """The experiments and studies in a folder."""
    return sorted(path.parent.name for path in results.glob("*/experiment.json"))


def _reports(results: Path, names: Sequence[str], tensorboard: bool = False) -> dict[str, Any]:
    """Every report made again, and event files: its page, or why there is none."""
    from sac_bench.report.experiment import write_report
    from sac_bench.results.tensorboard import write_events
    from sac_bench.tuning import report as of_study

    pages: dict[str, Any] = {}
    for name in names:
        try:
            is_study = (results / name / of_study.FILE).exists()
            pages[name] = (of_study.write_report if is_study else write_report)(results / name)
            console.print(f"{results / name / 'report.html'}", highlight=False, soft_wrap=True)
            if tensorboard and not is_study:
                console.print(f"{write_events(results / name)}", highlight=False, soft_wrap=True)
        except InputError as error:
            pages[name] = str(error)
    return pages


def _write_index(results: Path, pages: Mapping[str, Any]) -> None:
    from sac_bench.report.index import write_index

    write_index(pages, results)
    console.print(f"{results / 'index.html'}", highlight=False, soft_wrap=True)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A result's folder, as results/record/ablation-quick, or its name.")],
    b: Annotated[str, typer.Argument(help="Another's.")],
    results: ResultsOption = Path("results"),
    out: Annotated[Optional[Path], typer.Option(metavar="FILE", help="A page of it: .html or .md.")] = None,
) -> None:
    """Set two results side by side: scores, differences with verdicts, which runs are the same, what else differs."""
    with user_errors():
        from sac_bench.report import compare

        page = compare.write_page(compare.load_side(a, results), compare.load_side(b, results), out)
        console.print(compare.in_text(page), highlight=False, soft_wrap=True)
        if out is not None:
            console.print(f"\n{out}", highlight=False, soft_wrap=True)


@app.command()
def watch(
    run: Annotated[str, typer.Argument(help="A run's id, or EXPERIMENT/VARIANT[/ENVIRONMENT[/SEED]].")],
    results: ResultsOption = Path("results"),
    out: Annotated[Optional[Path], typer.Option(metavar="FILE", help="The video: .mp4 or .gif.")] = None,
    episodes: Annotated[int, typer.Option(metavar="N", min=1, help="Whole episodes.")] = 1,
    sample: Annotated[bool, typer.Option("--sample", help="Sampled actions, as SQL's always are.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the environment, and of what is sampled.")] = 0,
    import_: ImportOption = [],  # noqa: B006
) -> None:
    """Make a video of a trained policy."""
    with user_errors():
        _import(import_)
        from sac_bench.algorithms import ALGORITHMS
        from sac_bench.evaluation import video as watching
        from sac_bench.evaluation.policy import load_policy
        from sac_bench.store.store import Store

        if out is not None:
            watching.check_out(out)
        run = watching.find_run(run, results)
        policy = load_policy(run, results)
        for difference in Store(results).run(run).differences():
            console.print(f"trained with {difference}, and shown as it is now", highlight=False, soft_wrap=True)
        out = out or Path(f"{run}{'.mp4' if watching.has_ffmpeg() else '.gif'}")
        console.print(
            f"run {run}: {policy.spec.algorithm} on {policy.spec.env}, seed {policy.spec.seed}, {policy.steps:,} steps",
            highlight=False,
            soft_wrap=True,
        )
        sampled = sample or ALGORITHMS[policy.spec.algorithm].scored_by == "sample"
        for episode in watching.watch(policy, out, episodes, sampled, seed):
            console.print(f"return {episode.score:.1f} in {_counted(episode.length, 'step')}", highlight=False)
        console.print(f"video: {out}", highlight=False, soft_wrap=True)


@app.command()
def gc(
    results: ResultsOption = Path("results"),
    runs: Annotated[
        bool, typer.Option("--runs", help="Also free runs that no experiment in the folder lists.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Free what nothing refers to: what crashes left, replays nobody asked to keep. Says what and how much first."""
    with user_errors():
        from sac_bench.execution import gc
        from sac_bench.store.store import Store

        if not (results / "runs").is_dir():
            raise InputError(f"--results {results}: no runs there")
        store = Store(results)
        kept = lambda item: item.why == gc.UNLISTED and not runs
        with store.planning():
            found = gc.find(store)
        table = Table("what", "how many", "size")
        for why in dict.fromkeys(item.why for item in found):
            alike = [item for item in found if item.why == why]
            note = " (kept; --runs frees them)" if kept(alike[0]) else ""
            table.add_row(why + note, str(len(alike)), f"{sum(item.bytes for item in alike) / 1e6:,.1f} MB")
        if found:
            console.print(table)
        found = [item for item in found if not kept(item)]
        size = f"{sum(item.bytes for item in found) / 1e6:,.1f} MB"
        if not found:
            console.print("nothing to free")
        elif yes or (sys.stdin.isatty() and typer.confirm(f"free {size}?")):
            with store.planning():  # again: what was said, if it is still not needed
                gc.free([item for item in gc.find(store) if item in found])
            console.print(f"freed {size}")
        else:
            console.print(f"nothing freed; --yes frees {size}")


def _command_line() -> str:
    """What was typed, to be typed again: a locale without UTF-8 reads file names as bytes."""
    typed = [os.fsencode(argument).decode("utf-8", "backslashreplace") for argument in sys.argv[1:]]
    return "sac-bench " + shlex.join(typed)


def _import(modules: list[str]) -> None:
    sys.path.insert(0, "")
    if modules:
        import sac_bench.envs.sources  # noqa: F401 - first: what is registered from now on is the user's
    for module in modules:
        try:
            with output.captured(f"--import {module}"):
                importlib.import_module(module)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            raise InputError(f"--import {module}: {type(error).__name__}: {error}") from None


def main() -> None:
    """The command `sac-bench`: what typer finds amiss is told in one line too, and so is being stopped."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files may be any bytes
    signals: list[int] = []

    def stop(number: int, _: Any) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, stop)
    try:
        with no_child_left():  # what environments start that are made here
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except USAGE_ERROR as error:  # type: ignore[misc]
        print(f"sac-bench: {redacted(one_line(error.format_message()))}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("sac-bench: stopped", file=sys.stderr)
        code = 128 + (signals or [signal.SIGINT])[0]
    sys.exit(code)


if __name__ == "__main__":
    main()
