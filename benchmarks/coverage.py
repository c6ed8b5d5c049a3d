"""How often the intervals of `invitro.stats.intervals` hold, and how often its tests find effects that do not exist.

    python benchmarks/coverage.py                           1,000 null studies of five seeds, and some with an effect
    python benchmarks/coverage.py --regimes --studies 400   2 to 10 seeds, 150 and 500 texts, steady or not
    python benchmarks/coverage.py --methods --studies 500   the method in use and its alternatives

`null_studies` explains what a simulated study is. Everything printed is also written to
``benchmarks/results/coverage*.json``.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import described
from null_studies import Regime, Simulated, simulate, truth
from scipy.special import stdtrit

from invitro.files import write_json
from invitro.stats import Floats
from invitro.stats.intervals import compared, contrast, holm, interval_of
from invitro.stats.moments import METRICS, Scores, resampled

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Tally:
    """The results of many studies.

    Args:
        studies: how many.
        differences: share of the intervals of differences that contain the true one, by metric.
        means: share of the intervals of configurations' metrics that contain the true one, by metric.
        unlike: share of single tests with p < 0.05, by metric.
        family: share of studies with any p < 0.05 after Holm's correction.
        found: share of tests with p < 0.05 after Holm's correction, by metric.
        width: mean width of a difference's interval, by metric.
        over_seeds: mean share of a difference's squared error that comes from seeds, by metric.
    """

    studies: int
    differences: dict[str, float]
    means: dict[str, float]
    unlike: dict[str, float]
    family: float
    found: dict[str, float]
    width: dict[str, float]
    over_seeds: dict[str, float]


def tally(regime: Regime, studies: int, seed: int = 0, resamples: int = 1000) -> Tally:
    """Simulate `studies` and count. The family of a study is all its comparisons times all metrics."""
    expected = truth(regime)
    held: dict[str, list[list[bool]]] = {name: [] for name in METRICS}
    means: dict[str, list[list[bool]]] = {name: [] for name in METRICS}
    single, corrected, widths, shares = [], [], [], []
    for number in range(studies):
        study = simulate(regime, np.random.default_rng([seed, number]))
        arms = scored(study, resamples, number)
        rows = {name: [compared(arm[name], arms[0][name], name) for arm in arms[1:]] for name in METRICS}
        for name in METRICS:
            baseline, other = expected[name]
            held[name].append([one.low <= other - baseline <= one.high for one in rows[name]])
            there = [interval_of(arm[name], name) for arm in arms]
            goals = [baseline] + [other] * regime.others
            means[name].append([one.low <= goal <= one.high for one, goal in zip(there, goals, strict=True)])
        p = np.array([[one.p for one in rows[name]] for name in METRICS])
        single.append(p < 0.05)
        corrected.append(holm(p.ravel()).reshape(p.shape) < 0.05)
        widths.append([[one.high - one.low for one in rows[name]] for name in METRICS])
        shares.append([contrast(arms[1][name] - arms[0][name]).over_seeds for name in METRICS])
    return Tally(
        studies,
        {name: float(np.mean(held[name])) for name in METRICS},
        {name: float(np.mean(means[name])) for name in METRICS},
        _by_metric(np.mean(single, axis=(0, 2))),
        float(np.any(corrected, axis=(1, 2)).mean()),
        _by_metric(np.mean(corrected, axis=(0, 2))),
        _by_metric(np.mean(widths, axis=(0, 2))),
        _by_metric(np.mean(shares, axis=0)),
    )


def scored(study: Simulated, resamples: int, seed: int) -> list[dict[str, Scores]]:
    """Measure every configuration, all on the same draws."""
    arms, seeds, texts = study.predictions.shape
    everything = resampled(
        study.labels, study.predictions.reshape(-1, texts), study.authors, resamples=resamples, seed=seed
    )
    return [
        {
            name: one[here] for name, one in everything.items()
        }
        for here in (slice(arm * seeds, (arm + 1) * seeds) for arm in range(arms))
    ]  # fmt: skip


def _by_metric(values: Floats) -> dict[str, float]:
    return dict(zip(METRICS, map(float, values), strict=True))


def chosen(regime: Regime, studies: int, seed: int = 0, resamples: int = 500) -> dict[str, float]:
    """Return how often null studies end in a finding on the configuration that validation CCC chose.

    Validation is as large as test and has other texts, but the same runs. ``own``: the chosen one's tests are a family,
    as in `invitro.studies.summary`; ``all``: they belong to the family of all comparisons; ``single``: its test of CCC
    alone, uncorrected.
    """
    wide = replace(regime, texts=2 * regime.texts)
    rows = []
    for number in range(studies):
        study = simulate(wide, np.random.default_rng([seed, 1, number]))
        cut = int(np.searchsorted(study.authors, study.authors[regime.texts]))  # no author in both
        val, test = (
            Simulated(study.labels[part], study.predictions[..., part], study.authors[part])
            for part in (slice(0, cut), slice(cut, None))
        )
        ccc = resampled(val.labels, val.predictions.reshape(-1, cut), None, resamples=1)["ccc"].values
        best = int(ccc.reshape(regime.others + 1, -1).mean(axis=1)[1:].argmax())
        arms = scored(test, resamples, number)
        p = np.array([[compared(arm[name], arms[0][name], name).p for arm in arms[1:]] for name in METRICS])
        of_all = holm(p.ravel()).reshape(p.shape)
        rows.append([(of_all[:, best] < 0.05).any(), (holm(p[:, best]) < 0.05).any(), p[1, best] < 0.05])
    return dict(zip(("all", "own", "single"), map(float, np.mean(rows, axis=0)), strict=True))


Method = Callable[[Scores, np.random.Generator], tuple[float, float]]


def _normal_quantile(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _t(value: float, variance: float, df: float) -> tuple[float, float]:
    half = float(np.sqrt(variance) * stdtrit(df, 0.975))
    return value - half, value + half


def _picked(scores: Scores, rng: np.random.Generator) -> Floats:
    return rng.integers(scores.seeds, size=(len(scores.draws), scores.seeds))


def _satterthwaite(scores: Scores, _: np.random.Generator) -> tuple[float, float]:
    found = contrast(scores)
    seed, text = found.seed_error**2, found.text_error**2
    df = (seed + text) ** 2 / (seed**2 / (scores.seeds - 1) + text**2 / (scores.authors - 1))
    return _t(found.value, seed + text, df)


def _banerjee(scores: Scores, _: np.random.Generator) -> tuple[float, float]:
    """Return value -+ sqrt(t(S-1)^2 seed + t(G-1)^2 text) (Banerjee 1961, Sankhya 23)."""
    found = contrast(scores)
    quantiles = stdtrit([scores.seeds - 1, scores.authors - 1], 0.975)
    half = float(np.hypot(*(quantiles * [found.seed_error, found.text_error])))
    return found.value - half, found.value + half


def _ours(scores: Scores, _: np.random.Generator) -> tuple[float, float]:
    there = contrast(scores).interval()
    return there.low, there.high


METHODS: dict[str, Method] = {
    "percentiles over seeds": lambda s, rng: _normal_quantile(s.values[_picked(s, rng)].mean(axis=1)),
    "t over seeds": lambda s, _: _t(float(s.values.mean()), float(s.values.var(ddof=1)) / s.seeds, s.seeds - 1),
    "percentiles over texts": lambda s, _: _normal_quantile(s.draws.mean(axis=1)),
    "percentiles over both": lambda s, rng: _normal_quantile(
        np.take_along_axis(s.draws, _picked(s, rng), axis=1).mean(axis=1)
    ),
    "crossed, Satterthwaite": _satterthwaite,
    "crossed, Banerjee": _banerjee,
    "crossed, Behrens-Fisher (ours)": _ours,
}


def methods(regime: Regime, studies: int, seed: int = 0, resamples: int = 1000) -> dict[str, dict[str, float]]:
    """Return by method the share of intervals of differences that contain 0 in null studies, by metric."""
    held: dict[str, list[list[bool]]] = {name: [] for name in METHODS}
    for number in range(studies):
        rng = np.random.default_rng([seed, 2, number])
        arms = scored(simulate(regime, rng), resamples, number)
        for name, method in METHODS.items():
            limits = [method(arms[1][metric] - arms[0][metric], rng) for metric in METRICS]
            held[name].append([low <= 0 <= high for low, high in limits])
    return {name: _by_metric(np.mean(rows, axis=0)) for name, rows in held.items()}


def _line(values: dict[str, float], percent: bool = True) -> str:
    return "  ".join(f"{100 * values[name]:6.1f}" if percent else f"{values[name]:6.4f}" for name in METRICS)


def _show(regime: Regime, found: Tally) -> None:
    print(f"\n{found.studies} studies, {regime}")
    print(f"{'':<46}{'PCC':>6}  {'CCC':>6}  {'RMSE':>6}")
    print(f"{'true difference':<46}{_line({n: b - a for n, (a, b) in truth(regime).items()}, percent=False)}")
    print(f"{'mean width of its interval':<46}{_line(found.width, percent=False)}")
    print(f"{'its squared error from seeds, %':<46}{_line(found.over_seeds)}")
    print(f"{'coverage of differences, %':<46}{_line(found.differences)}")
    print(f"{'coverage of configurations, %':<46}{_line(found.means)}")
    print(f"{'p < 0.05 before correction, %':<46}{_line(found.unlike)}")
    print(f"{'p < 0.05 after Holm, %':<46}{_line(found.found)}")
    print(f"{'studies with any p < 0.05 after Holm, %':<46}{100 * found.family:6.1f}")


def main() -> None:
    """Run the chosen measurement, print the results and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--regimes", action="store_true")
    parser.add_argument("--methods", action="store_true")
    options = parser.parse_args()
    started, machine = time.perf_counter(), described("numpy", "scipy", "invitro")
    name, measure = "coverage", _main
    if options.methods:
        name, measure = "coverage_methods", _methods
    elif options.regimes:
        name, measure = "coverage_regimes", _regimes
    found = measure(options.studies)
    seconds = round(time.perf_counter() - started, 1)
    print(f"\n{seconds:.0f} s")
    write_json(RESULTS / f"{name}.json", {"machine": machine, "seconds": seconds, "found": found})


def _main(studies: int) -> list[dict[str, Any]]:
    """Measure null studies, studies with a planted effect, and null studies with a choice."""
    fewer = max(1, 3 * studies // 10)
    rows = [_tallied(Regime(), studies), _tallied(Regime(effect=0.3), fewer)]
    for unsteady in (1.0, 2.0):
        many = Regime(others=12, unsteady=unsteady)
        found = chosen(many, fewer)
        print(f"\n{fewer} null studies of twelve configurations, one chosen by validation CCC: {many}")
        print(
            f"any finding on the chosen one, in a family of its own {100 * found['own']:.1f} %, in one of all "
            f"comparisons {100 * found['all']:.1f} %; its CCC alone, uncorrected {100 * found['single']:.1f} %"
        )
        rows.append({"regime": asdict(many), "studies": fewer, "chosen": found})
    return rows


def _regimes(studies: int) -> list[dict[str, Any]]:
    """Measure null studies of many kinds."""
    return [
        _tallied(Regime(seeds, texts, unsteady), studies)
        for seeds in (2, 3, 5, 10)
        for texts in (150, 500)
        for unsteady in (0.4, 1.0, 2.0)
    ]


def _methods(studies: int) -> list[dict[str, Any]]:
    """Compare methods on null studies."""
    rows = []
    for regime in (Regime(), Regime(seeds=3), Regime(seeds=10), Regime(unsteady=0.4), Regime(unsteady=2.0)):
        print(f"\n{studies} studies, {regime}\n{'':<46}{'PCC':>6}  {'CCC':>6}  {'RMSE':>6}")
        found = methods(regime, studies)
        for name, held in found.items():
            print(f"{name:<46}{_line(held)}")
        rows.append({"regime": asdict(regime), "studies": studies, "coverage": found})
    return rows


def _tallied(regime: Regime, studies: int) -> dict[str, Any]:
    found = tally(regime, studies)
    _show(regime, found)
    return {"regime": asdict(regime), "true": truth(regime), **asdict(found)}


if __name__ == "__main__":
    main()
