"""The crowd and LLMs as raters of one true score: how each of them errs, and the true score of every text.

Text i has a true score t_i in the crowd's units. It depends on what the text says, by a Gaussian process with the
kernel K of the texts' features, plus the text's own part, which the features do not show. With independent Gaussian
processes f, h and g_r of kernel K, and independent standard normal u_i, w_i, e_ir::

    t_i             = s f(x_i) + tau u_i
    person r:  y_ir = mu_r + t_i + sigma_r e_ir
    LLM r:     y_ir = mu_r + b_r t_i + c_r (sqrt(rho) h(x_i) + sqrt(1 - rho) g_r(x_i))
                                     + sigma_r (sqrt(kappa) w_i + sqrt(1 - kappa) e_ir)

An LLM has a mean, a scale b_r, a systematic error that depends on what the text says (SD c_r), and noise. LLMs share
the part rho of the variance of their systematic errors, and the part kappa of that of their noise: if their errors were
independent, anything that two LLMs agree on would be taken for the truth. People have scale 1 and no systematic error,
which defines t: what LLMs see in a text but people do not is an error of the LLMs.

All ratings are jointly normal. The covariance of ratings (i, r) and (j, q) is, with b_r = 1 and c_r = 0 for people::

    K_ij C_rq + [i = j] D_rq,    C = s^2 b b' + systematic errors,    D = tau^2 b b' + noise,

a multi-output Gaussian process (Bonilla, Chai, Williams 2008, "Multi-task Gaussian Process Prediction", NIPS 20).
Inferring the truth and the raters' quality together is due to "Learning From Crowds" (Raykar et al. 2010, JMLR 11),
with Gaussian processes Groot, Birlutiu, Heskes (2011), "Learning from Multiple Annotators with Gaussian Processes",
ICANN.

The parameters maximise the marginal likelihood (`invitro.raters.likelihood`) times weak priors.

What cannot be identified: with one crowd rating per text, the crowd's noise is separated from the text's own part only
as far as LLMs see that part too; without LLMs the priors decide. And the more the features explain, the less remains
for the crowd's noise: noise and reliability depend on the kernel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor

from invitro.errors import InputError, refuse_if_any
from invitro.raters.likelihood import RatingMoments, cheapest
from invitro.raters.precision import LEAST_TEXTS
from invitro.stats import Bools, Floats, Ints
from invitro.stats.intervals import Interval

NORMAL = 1.959964
HALF = float(np.log(0.5))
PRIORS = {
    "explained": (HALF, 1.0),  # log s
    "own": (HALF, 1.0),  # log tau
    "noise": (HALF, 1.0),  # log sigma_r
    "systematic": (HALF, 1.0),  # log c_r
    "scale": (1.0, 1.0),  # b_r
    "shared": (0.0, 1.5),  # logit rho: close to uniform in rho
    "shared_noise": (0.0, 1.5),  # logit kappa
}
"""Mean and SD of the parameters' normal priors, in units in which each LLM's ratings, and people's together, have SD 1.

A SD is thus between 0.07 and 3.5 times that of the ratings with a probability of 95 %. Means have no prior. Parameters
stay within 4 SDs of their prior's mean: SDs from 0.01 to 27 keep matrices invertible even if a rater never errs.
"""

SAME = 0.999
"""Correlation above which two LLMs count as the same: nothing would distinguish what they share from the truth."""


@dataclass(frozen=True)
class JointRaters:
    """The fitted raters and the truth.

    Args:
        scale: b_r, (raters,), the rater's units per unit of the crowd; 1 for people.
        noise: sigma_r, (raters,), SD in the rater's units.
        systematic: c_r, (raters,), SD of the systematic error in the rater's units; 0 for people.
        shared: rho, the share of the systematic errors' variance that LLMs have in common; 0 with one LLM.
        shared_noise: kappa, the share of the noise variance that LLMs have in common; 0 with one LLM.
        explained: s, SD of the part of the true score that features explain, in the crowd's units.
        own: tau, SD of the text's own part, in the crowd's units.
        log_likelihood: marginal log likelihood of all ratings, without the priors.
        reliability: of single crowd ratings: the share of their variance that is not noise,
            ``1 - sigma^2 / var(crowd)``, 0 to 1, with its 95 % interval given this kernel. With several people sigma^2
            is the mean over ratings, and var(crowd) the variance within people's columns.
        intervals: for each estimated parameter, 95 % intervals in the order of its raters. They come from the normal
            approximation at the maximum (Laplace), on the scale that is optimised: logarithmic, logit or linear.
            Their ends are NaN if the maximum is degenerate.
        label: posterior mean of the true score, (texts,), in the crowd's units (with its mean).
        variance: posterior variance, (texts,).
        single: all ratings condensed into one crowd rating per text, (texts,): a Gaussian process with the same kernel,
            fitted to these with the noise of single crowd ratings, makes the same predictions as this model. With crowd
            ratings alone, these are the ratings themselves. Unlike posterior means, they are not shrunk twice when a
            student is fitted to them. They can be outside the scale.
        weight: of the label in a loss, (texts,), 0 to 1: its reliability ``1 - variance / var(t)``, the squared
            correlation with the truth. If nothing is known about a text, its label is the crowd's mean, with weight 0.
        single_noise: SD of the noise of a single crowd rating, in the crowd's units.
        level: the crowd's mean: the mean of its columns' means, weighted by the number of ratings.
        pull: a, (texts,), see `invitro.raters.likelihood`.
        information: B, (texts, texts), see `invitro.raters.likelihood`.
    """

    scale: Floats
    noise: Floats
    systematic: Floats
    shared: float
    shared_noise: float
    explained: float
    own: float
    log_likelihood: float
    reliability: Interval
    intervals: Mapping[str, tuple[Interval, ...]]
    label: Floats
    variance: Floats
    single: Floats
    weight: Floats
    single_noise: float
    level: float
    pull: Floats
    information: Floats

    def predict(self, kernel: Floats, variance: Floats) -> tuple[Floats, Floats]:
        """Return the posterior mean of new texts' true scores in the crowd's units, and its SD, both (new,).

        Args:
            kernel: of new and fitted texts, (new, texts), centred and scaled like the kernel of the fit.
            variance: of the new texts, the kernel of each with itself, (new,).
        """
        mean = self.level + self.explained**2 * (kernel @ self.pull)
        learned = self.explained**4 * np.einsum("ij,ij->i", kernel @ self.information, kernel)
        return mean, np.sqrt(np.maximum(self.explained**2 * variance - learned, 0.0) + self.own**2)


def most_telling(
    kernel: Floats, information: Floats, variances: tuple[float, float, float], candidates: Ints, count: int
) -> tuple[Ints, Floats]:
    """Rank texts by how much a person's rating of each would reveal about all texts; return the order and how much.

    With g = s f, the part of the truth that features explain, T and B as in `invitro.raters.likelihood`, and, given all
    ratings so far, ``A = cov(g, t) = s^2 K (I - B T)`` and ``V = cov(t) = T - T B T``, a rating of text i removes

        sum_j A_ji^2 / (V_ii + sigma^2)

    of the variances of all g_j. The text that removes most is chosen, A and V are updated as if it had been rated,
    which does not depend on the rating, and the next text is sought: active learning with the expected reduction of the
    integrated variance (Cohn 1996, "Neural Network Exploration Using Optimal Experiment Design", Neural Networks 9; for
    Gaussian processes Seo et al. 2000, "Gaussian Process Regression: Active Data Selection and Test Point Rejection",
    IJCNN).

    Args:
        kernel: of the texts, (texts, texts).
        information: B, (texts, texts); 0 if nothing was rated.
        variances: s^2, tau^2 and sigma^2: of what features explain, of a text's own part, of a person's noise.
        candidates: the texts that may be rated, (candidates,).
        count: how many to return; at most the number of candidates.

    Returns:
        The texts, (count,), and the share of the variance of g that each removes after those before it, (count,).
    """
    explained, own, noise = variances
    truth = explained * kernel + own * np.eye(len(kernel))
    left = np.eye(len(kernel)) - information @ truth
    shared, variance = explained * kernel @ left, truth @ left
    whole = float(np.trace(explained * kernel - explained**2 * kernel @ information @ kernel))
    open_ones, chosen, gains = np.zeros(len(kernel), dtype=np.bool_), list[int](), list[float]()
    open_ones[candidates] = True
    for _ in range(min(count, len(candidates))):
        total = np.diag(variance) + noise
        gain = np.where(open_ones, np.square(shared).sum(axis=0) / total, -1.0)
        best = int(gain.argmax())
        chosen.append(best)
        gains.append(float(gain[best]))
        open_ones[best] = False
        column, row = shared[:, best].copy(), variance[best].copy()
        shared -= np.outer(column, row) / total[best]
        variance -= np.outer(row, row) / total[best]
    return np.array(chosen, dtype=np.intp), np.array(gains) / whole


def fit_raters(
    ratings: Floats, kernel: Floats, llm: Sequence[bool] | Bools, names: Sequence[str], shared: bool = True
) -> JointRaters:
    """Fit the raters and infer the truth of every text, rated or not.

    Args:
        ratings: (texts, raters), each in the rater's own units, NaN if missing. A column may hold the ratings of
            many people; people whose own means and noise are to be estimated have separate columns.
        kernel: of the texts, (texts, texts), positive semi-definite; centred, with mean variance 1.
        llm: which raters are LLMs, (raters,); all others are people.
        names: of the raters, (raters,), for messages.
        shared: whether LLMs share errors (rho and kappa); False is for comparison.

    Raises:
        InputError: no people, too few texts, a rater without ratings or whose ratings are all the same, two LLMs that
            say the same, or too many ratings in a table that is mostly gaps.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 3))
        >>> x -= x.mean(axis=0)
        >>> truth = 4 + x @ [1.0, 0.5, 0.2]
        >>> ratings = np.stack([truth + rng.normal(size=200), 2 * truth + rng.normal(size=200)], axis=1)
        >>> fitted = fit_raters(ratings, x @ x.T / np.mean(x**2) / 3, [False, True], ["crowd", "llm"])
        >>> fitted.scale.round().tolist(), float(np.corrcoef(fitted.label, truth)[0, 1].round(1))
        ([1.0, 2.0], 1.0)
    """
    ratings, llm = np.asarray(ratings, dtype=np.float64), np.asarray(llm, dtype=np.bool_)
    _refuse(ratings, llm, names)
    observed = ~np.isnan(ratings)
    rated, counts = observed.any(axis=1), observed.sum(axis=0)
    route = cheapest(ratings[rated], kernel[np.ix_(rated, rated)])
    layout = _Layout(ratings, llm, shared)

    def loss(theta: Floats) -> tuple[float, Floats]:
        return _with_slope(lambda at: -route.log_density(layout.moments(at)) - layout.log_prior(at), theta)

    options = {"maxiter": 1000, "maxcor": 50, "ftol": 1e-12}  # long memory: some parameters are only identified jointly
    best = minimize(loss, layout.start, jac=True, method="L-BFGS-B", bounds=layout.bounds, options=options).x
    covariance = _inverse_hessian(loss, best)
    log_noise, slope = _with_slope(layout.log_crowd_noise, best)
    noise_shares = np.exp(log_noise + NORMAL * np.sqrt(slope @ covariance @ slope) * np.array([0.0, 1.0, -1.0]))
    half = NORMAL * np.sqrt(np.diag(covariance))
    estimates, low, high = (layout.parts(torch.tensor(end)) for end in (best, best - half, best + half))
    moments = layout.moments(torch.tensor(best))
    mean = moments.mean.numpy()
    pull, information = np.zeros(len(ratings)), np.zeros((len(ratings), len(ratings)))
    pull[rated], information[np.ix_(rated, rated)] = route.information(moments)
    s, tau = float(estimates["explained"]), float(estimates["own"])
    level = float(np.average(mean[~llm], weights=counts[~llm]))
    noise = float(np.sqrt(np.average(estimates["noise"].numpy()[~llm] ** 2, weights=counts[~llm])))
    truth = s**2 * kernel + tau**2 * np.eye(len(kernel))
    variance = np.diag(truth) - np.einsum("ij,ji->i", truth @ information, truth)
    return JointRaters(
        scale=moments.scale.numpy(),
        noise=estimates["noise"].numpy(),
        systematic=layout.of_llms(estimates["systematic"]).numpy(),
        shared=float(estimates["shared"].sum()),
        shared_noise=float(estimates["shared_noise"].sum()),
        explained=s,
        own=tau,
        log_likelihood=float(route.log_density(moments)),
        reliability=Interval(*(1 - noise_shares).clip(0, 1).tolist()),
        intervals={
            name: tuple(map(Interval, values.tolist(), low[name].tolist(), high[name].tolist()))
            for name, values in estimates.items()
        },
        label=level + truth @ pull,
        variance=variance,
        single=level + s**2 * (kernel @ pull) + (noise**2 + tau**2) * pull,
        weight=np.clip(1 - variance / np.diag(truth), 0.0, 1.0),
        single_noise=noise,
        level=level,
        pull=pull,
        information=information,
    )


class _Layout:
    """Maps the vector theta that is optimised to parameters, and these to moments of the ratings."""

    def __init__(self, ratings: Floats, llm: Bools, shared: bool) -> None:
        counts, unit = (~np.isnan(ratings)).sum(axis=0), np.nanstd(ratings, axis=0)
        people = np.sqrt(np.average(unit[~llm] ** 2, weights=counts[~llm]))
        unit[~llm] = people
        several = np.ones(int(shared and llm.sum() > 1))
        units: dict[str, npt.ArrayLike] = {
            "mean": unit,
            "explained": [people],
            "own": [people],
            "noise": unit,
            "scale": unit[llm] / people,
            "systematic": unit[llm],
            "shared": several,
            "shared_noise": several,
        }
        self.units = {name: torch.tensor(np.asarray(value)) for name, value in units.items()}
        self.centre = torch.tensor(np.nanmean(ratings, axis=0))
        self.llm, self.counts = torch.tensor(llm), torch.tensor(counts[~llm])
        priors = {"mean": (0.0, np.inf), **PRIORS}
        self.start, self.width = (
            np.concatenate([np.full(len(self.units[name]), priors[name][index]) for name in self.units])
            for index in (0, 1)
        )
        self.bounds = Bounds(self.start - 4 * self.width, self.start + 4 * self.width)

    def parts(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the parameters by name, each of shape (raters that have it,), in the ratings' units."""
        parts = dict(zip(self.units, torch.split(theta, [len(unit) for unit in self.units.values()]), strict=True))
        for name, value in parts.items():
            if name in ("explained", "own", "noise", "systematic"):
                value = torch.exp(value)
            elif name.startswith("shared"):
                value = torch.sigmoid(value)
            parts[name] = value * self.units[name]
        return parts | {"mean": parts["mean"] + self.centre}

    def of_llms(self, values: Tensor, people: float = 0.0) -> Tensor:
        """Return the LLMs' values, with `people` for everybody else, (raters,)."""
        return torch.full(self.llm.shape, people, dtype=torch.float64).masked_scatter(self.llm, values)

    def moments(self, theta: Tensor) -> RatingMoments:
        """Return the mean and the covariances of the ratings."""
        part = self.parts(theta)
        scale = self.of_llms(part["scale"], 1.0)
        systematic = self.of_llms(part["systematic"])
        pairs = torch.outer(self.llm, self.llm).fill_diagonal_(False)

        def errors(sd: Tensor, share: Tensor) -> Tensor:
            return torch.outer(sd, sd) * (torch.eye(len(sd), dtype=torch.float64) + share.sum() * pairs)

        between = part["explained"] ** 2 * torch.outer(scale, scale) + errors(systematic, part["shared"])
        within = part["own"] ** 2 * torch.outer(scale, scale) + errors(part["noise"], part["shared_noise"])
        return RatingMoments(part["mean"], scale, between, within)

    def log_prior(self, theta: Tensor) -> Tensor:
        """Return the log density of the priors, up to a constant."""
        return -0.5 * (((theta - torch.tensor(self.start)) / torch.tensor(self.width)) ** 2).sum()

    def log_crowd_noise(self, theta: Tensor) -> Tensor:
        """Return the logarithm of the noise's share in the variance of the crowd's ratings."""
        shares = (self.parts(theta)["noise"] / self.units["noise"])[~self.llm] ** 2
        return torch.log((shares * self.counts).sum() / self.counts.sum())


def _with_slope(function: Callable[[Tensor], Tensor], theta: Floats) -> tuple[float, Floats]:
    at = torch.tensor(theta, requires_grad=True)
    value = function(at)
    (slope,) = torch.autograd.grad(value, at)
    return float(value.detach()), slope.numpy()


def _inverse_hessian(loss: Callable[[Floats], tuple[float, Floats]], best: Floats) -> Floats:
    """Return the covariance of the normal approximation at the minimum, from central differences of the slope."""
    step = 1e-3
    hessian = np.stack([(loss(best + at)[1] - loss(best - at)[1]) / (2 * step) for at in step * np.eye(len(best))])
    covariance = np.linalg.inv((hessian + hessian.T) / 2)
    return np.where(np.diag(covariance) > 0, covariance, np.nan)


def _refuse(ratings: Floats, llm: Bools, names: Sequence[str]) -> None:
    """Refuse ratings from which nothing can be learned."""
    observed = ~np.isnan(ratings)
    if llm.all():
        raise InputError("all raters are LLMs: expected at least one person, whose ratings define the true score")
    refuse_if_any(
        f"{name}: expected ratings that differ, found {sameness}; leave this rater out, or put people with few ratings "
        "into one column"
        for name, column in zip(names, ratings.T, strict=True)
        if (sameness := _sameness(column[~np.isnan(column)]))
    )
    for first, second in combinations(np.flatnonzero(llm).tolist(), 2):
        both = observed[:, first] & observed[:, second]
        if both.sum() > 2 and abs(np.corrcoef(ratings[both, first], ratings[both, second])[0, 1]) > SAME:
            raise InputError(f"{names[first]} and {names[second]} say the same: expected different LLMs; leave one out")
    if (people := int(observed[:, ~llm].any(axis=1).sum())) < LEAST_TEXTS:
        raise InputError(f"{people} texts have ratings by people: expected at least {LEAST_TEXTS}")


def _sameness(values: Floats) -> str:
    """Describe ratings that are missing or all the same; empty for others."""
    if not len(values):
        return "none"
    return f"{values[0]:g} for all {len(values)} texts" if values.min() == values.max() else ""
