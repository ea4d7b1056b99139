"""How fast is message passing? Ours by each method against dynamax, in one process, runs interleaved.

    python benchmarks/message_passing.py                      every size of the table
    python benchmarks/message_passing.py --sizes 16,200,10    one size (batch, time, latent)

For every size: forward (log Z, means, covariances), value and gradient of a scalar function of all three with respect
to the prior, the precisions and the shifts, one joint sample a series; median milliseconds, compile seconds and the
temporary memory that XLA reserves. ``work`` is the share of the machine's matrix-multiplication rate, measured in the
same run, that the forward pass reaches on the flops which its recursion needs (16 K^3 a step: two Cholesky factors with
inverses, and products). dynamax sees the same problem as observations of the whole state with covariance J^-1.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from svae_cli.inference import LinearGaussianPrior, Potential, smooth

SIZES = "1,1000,5;16,200,5;16,200,10;16,1000,10;4,1000,32;1,10000,5;1,100000,5;1,10000,64"
FLOORS = {
    (1, 1000, 5): (8, 30),
    (1, 10000, 5): (20, 40),
    (16, 200, 5): (6, 15),
    (16, 200, 10): (2.4, 4),
    (16, 1000, 10): (2.5, 4),
    (4, 1000, 32): (4, 6),
}


def problem(batch: int, steps: int, k: int):
    """Prior moments, full precisions (B, T, K, K) and shifts (B, T, K), float32, ordinary conditioning."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(batch, steps, k, k)) / np.sqrt(k)
    precision = root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(k)
    dynamics = 0.95 * np.linalg.qr(rng.normal(size=(k, k)))[0]
    moments = np.zeros(k), np.eye(k), dynamics, np.zeros(k), 0.1 * np.eye(k) + 0.02
    arrays = *moments, precision, rng.normal(size=(batch, steps, k))
    return tuple(jnp.asarray(x, jnp.float32) for x in arrays)


def ours(method: str) -> dict[str, Callable]:
    """The three tasks by our ``method``."""

    def forward(m1, q1, a, b, q, precision, shift):
        prior = LinearGaussianPrior(m1, q1, a, b, q)
        p = jax.vmap(lambda pot: smooth(prior, pot, method=method))(Potential(precision, shift))
        return p.log_normalizer, p.means, p.covariances

    def draw(m1, q1, a, b, q, precision, shift):
        prior = LinearGaussianPrior(m1, q1, a, b, q)
        keys = jr.split(jr.key(0), len(shift))
        return jax.vmap(lambda pot, key: smooth(prior, pot, method=method).sample(key, 1))(
            Potential(precision, shift), keys
        )

    return {"forward": forward, "gradient": gradient(forward), "sample": draw}


def gradient(forward: Callable) -> Callable:
    """Value and gradient of a scalar function of all that ``forward`` returns, with respect to all its arguments."""

    def score(*args):
        log_z, means, covs = forward(*args)
        return jnp.sum(log_z) / 100 + jnp.sum(jnp.sin(means)) + jnp.sum(jnp.sin(covs))

    return jax.value_and_grad(score, argnums=tuple(range(7)))


def dynamax(*, parallel: bool) -> dict[str, Callable]:
    """The three tasks by dynamax; its parallel smoother's gradient compiles for minutes and is left out."""
    from dynamax.linear_gaussian_ssm import inference, lgssm_posterior_sample, lgssm_smoother, parallel_lgssm_smoother

    smoother = parallel_lgssm_smoother if parallel else lgssm_smoother

    def observed(args, index):
        m1, q1, a, b, q, precision, shift = args
        cov = jnp.linalg.inv(precision[index])
        values = jnp.einsum("tij,tj->ti", cov, shift[index])
        weights = jnp.eye(len(m1), dtype=m1.dtype)
        return inference.make_lgssm_params(m1, q1, a, q, weights, cov, dynamics_bias=b), values

    def forward(*args):
        def one(index):
            p = smoother(*observed(args, index))
            return p.marginal_loglik, p.smoothed_means, p.smoothed_covariances

        return jax.vmap(one)(jnp.arange(args[-1].shape[0]))

    def draw(*args):
        def one(index, key):
            return lgssm_posterior_sample(key, *observed(args, index))

        count = args[-1].shape[0]
        return jax.vmap(one)(jnp.arange(count), jr.split(jr.key(0), count))

    tasks = {"forward": forward}
    return tasks if parallel else {**tasks, "gradient": gradient(forward), "sample": draw}


def prepare(function: Callable, args):
    """(compiled, seconds to compile, megabytes of temporaries)."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    return compiled, seconds, compiled.memory_analysis().temp_size_in_bytes / 1e6


def measure(candidates: dict[str, Callable], args, *, budget: float) -> dict[str, dict]:
    """Compile all, then run them in turn until ``budget`` seconds are over (at least 3 rounds); medians."""
    ready, times = {}, {name: [] for name in candidates}
    for name, function in candidates.items():
        ready[name] = prepare(function, args)
        jax.block_until_ready(ready[name][0](*args))
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(times[next(iter(times))]) < 3:
        for name, (compiled, _, _) in ready.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled(*args))
            times[name].append(time.perf_counter() - start)
    return {
        name: {"ms": float(np.median(times[name])) * 1e3, "compile_s": seconds, "temp_mb": memory}
        for name, (_, seconds, memory) in ready.items()
    }


def matmul_rate() -> float:
    """Flops a second of one large float32 multiplication."""
    x = jnp.ones((1024, 1024), jnp.float32)
    run = jax.jit(lambda x: x @ x)
    run(x).block_until_ready()
    times = []
    for _ in range(9):
        start = time.perf_counter()
        run(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(times)


def benchmark(size: tuple[int, int, int], tasks: list[str], *, budget: float, peers: bool) -> list[dict]:
    """One row a task."""
    batch, steps, k = size
    args = problem(*size)
    tables = {f"ours {m}": ours(m) for m in ("auto", "sequential", "parallel")}
    if peers:
        tables |= {"dynamax": dynamax(parallel=False), "dynamax parallel": dynamax(parallel=True)}
    rows = []
    for task in tasks:
        candidates = {name: table[task] for name, table in tables.items() if task in table}
        results = measure(candidates, args, budget=budget)
        mine = results["ours auto"]["ms"]
        row = {"size": size, "task": task, "results": results}
        if "dynamax" in results:
            row["ratio"] = results["dynamax"]["ms"] / mine
        if task == "forward":
            row["work"] = 16 * k**3 * batch * steps / (mine / 1e3) / matmul_rate()
        rows.append(row)
        print(show(row), flush=True)
    return rows


def show(row: dict) -> str:
    """One line of the table."""
    floors = FLOORS.get(tuple(row["size"]), ())
    floor = floors[("forward", "gradient").index(row["task"])] if floors and row["task"] != "sample" else None
    parts = [
        f"{name} {r['ms']:.2f} ms ({r['compile_s']:.1f} s, {r['temp_mb']:.0f} MB)" for name, r in row["results"].items()
    ]
    ratio = f"  {row['ratio']:.1f}x" if "ratio" in row else ""
    ratio += f" (floor {floor})" if floor and "ratio" in row else ""
    work = f"  work {100 * row['work']:.1f}%" if "work" in row else ""
    return f"{row['size']!s:16} {row['task']:9}{ratio}{work}  |  " + "; ".join(parts)


def markdown(record: dict) -> str:
    """The committed results as the table of docs/message-passing.md; milliseconds, and compile seconds in brackets."""
    ours = "auto", "sequential", "parallel"
    heads = "B, T, K", "task", *ours, "dynamax", "ratio", "dynamax parallel", "MB ours / dynamax", "work"
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in record["rows"]:
        cells = [
            f"{r['ms']:.3g} ({r['compile_s']:.1f})" if (r := row["results"].get(name)) else ""
            for name in ("ours auto", "ours sequential", "ours parallel", "dynamax", "dynamax parallel")
        ]
        memory = " / ".join(f"{row['results'][n]['temp_mb']:.0f}" for n in ("ours auto", "dynamax"))
        size = ", ".join(map(str, row["size"]))
        cells.insert(4, f"**{row['ratio']:.1f}**")
        work = f"{100 * row['work']:.0f} %" if "work" in row else ""
        lines.append(f"| {size} | {row['task']} | {' | '.join(cells)} | {memory} | {work} |")
    return "\n".join(lines)


def main() -> None:
    """Run, print the table, write JSON beside it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default=SIZES, help="batch,time,latent; several separated by ;")
    parser.add_argument("--tasks", default="forward,gradient,sample", help="some of these")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of running a task")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    parser.add_argument("--table", type=Path, default=None, help="only print a JSON file as a table")
    options = parser.parse_args()
    if options.table:
        print(markdown(json.loads(options.table.read_text())))
        return
    sizes = [tuple(int(x) for x in text.split(",")) for text in options.sizes.split(";")]
    device = jax.devices()[0]
    about = {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
    }
    print(json.dumps(about), file=sys.stderr)
    rows = []
    for size in sizes:
        rows += benchmark(size, options.tasks.split(","), budget=options.budget, peers=not options.no_peers)
        if options.out:
            options.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
