"""Run ``svae`` with its defaults on real tasks and print the scores beside those of other methods.

    python -m benchmarks.tasks --quick                      imputation on etth1, one seed, a minute of training
    python -m benchmarks.tasks --seeds 0,1,2                everything
    python -m benchmarks.tasks --only impute --variants default,linear

Finished runs are kept in ``benchmarks/results/tasks.json`` and not repeated; ``--table`` only prints.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

HERE = Path(__file__).parent.parent
ROOT = HERE.parent


def main() -> None:
    options = _options()
    from svae_cli.cli.compiled import compile_sooner

    compile_sooner()  # as the program does
    from benchmarks.tasks.problems import problems
    from benchmarks.tasks.tables import peers, tables

    runs = json.loads(options.results.read_text())["runs"] if options.results.exists() else {}
    known = problems(options.tasks, options.bench)
    chosen = [name for name in known if any(name.startswith(start) for start in options.only.split(","))]
    for name in [] if options.table else chosen:
        for seed in map(int, options.seeds.split(",")):
            for variant in options.variants.split(","):
                _run(known[name], name, variant, seed, options, runs)
    print(tables(runs, peers(HERE / "peers.json")))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, default=ROOT / "../shared/tasks", help="folder of the task files (npz)")
    parser.add_argument("--bench", type=Path, default=ROOT / "../shared/bench", help="folder of the data sets (h5)")
    parser.add_argument("--results", type=Path, default=HERE / "results/tasks.json", help="where runs are kept")
    parser.add_argument("--only", default="", help="problems whose names start so, comma-separated")
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--variants", default="default", help="comma-separated; see answers.py")
    parser.add_argument("--time-limit", type=float, default=None, help="seconds of each training")
    parser.add_argument("--models", type=Path, help="folder of trained models: ask those there, keep others")
    parser.add_argument("--quick", action="store_true", help="imputation on etth1, 60 seconds of training")
    parser.add_argument("--table", action="store_true", help="run nothing, print what is there")
    options = parser.parse_args()
    if options.quick:
        options.only, options.time_limit = options.only or "impute/etth1", options.time_limit or 60.0
    return options


def _run(load, name: str, variant: str, seed: int, options: argparse.Namespace, runs: dict) -> None:
    """One training and its questions, unless they are answered already."""
    from benchmarks.tasks.answers import answer
    from benchmarks.tasks.reference import baseline_answers
    from svae_cli.errors import SvaeError

    key = f"{variant}|{seed}" if options.time_limit is None else f"{variant} {options.time_limit:.0f}s|{seed}"
    problem = load()
    if all(key in runs.get(question.name, {}) for question in problem.questions):
        return
    print(f"{name} {key}", file=sys.stderr, flush=True)
    for question, methods in baseline_answers(problem).items():
        runs.setdefault(question, {}).update({f"{method}|0": scores for method, scores in methods.items()})
    try:
        answers = answer(problem, variant, seed, options.time_limit, options.models)
    except SvaeError as error:
        print(f"{name} {key} FAILED: {error}", file=sys.stderr, flush=True)
        return
    for question, scores in answers.items():
        runs[question][key] = scores
    _save(options.results, runs)


def _save(path: Path, runs: dict) -> None:
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"machine": machine, "runs": runs}, indent=1))
    part.replace(path)


if __name__ == "__main__":
    main()
