"""Regression in closed form, given how similar texts are: a Gaussian process, with no epochs and no seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, lapack, solve_triangular
from scipy.sparse import csr_matrix

from invitro.errors import InputError
from invitro.models.features import FIRST_LAYERS, LayerKernel, first_layers
from invitro.models.outputs import Predictions
from invitro.models.settings import PredictedSpread
from invitro.stats import Floats, Ints, Singles

NOISES = (0.75, 1.0, 1.5, 2.0, 3.0)
"""Variances of the noise to choose from, in units of the variance that the kernel explains."""
MOST_EXACT = 10_000
"""Training texts up to which the solution is exact."""
LANDMARKS = 4_000
"""Texts that represent all of them beyond that; also the largest number on which layers and noise are chosen."""
PART = 2_000
"""How many texts' similarities to the training texts, or to the landmarks, are in memory at a time."""
OWN_ARRAYS = ("mean", "coefficients", "factor", "learned", "variance", "noise", "stretch")
KERNEL_ARRAYS = ("mean", "spread", "rows", "level", "variance")
SPARSE = ("data", "indices", "indptr")


class Observed(NamedTuple):
    """The labels of the training texts.

    Args:
        labels: (texts,), the scale's units. A text that was rated several times may have several rows.
        weights: (texts,), above 0: a text of weight 2 counts like two copies of it.
        authors: (texts,).
    """

    labels: Floats
    weights: Floats
    authors: npt.NDArray[Any]

    def of(self, rows: "Ints | slice") -> "Observed":
        """Return a subset."""
        return Observed(self.labels[rows], self.weights[rows], self.authors[rows])

    @property
    def mean(self) -> float:
        """The weighted mean label."""
        return float(np.average(self.labels, weights=self.weights))


@dataclass(frozen=True)
class ExactRegression:
    """Gaussian process regression, ``y = mean + f + e`` with ``var f = s^2 k`` and ``var e = s^2 noise / weight``.

    Rasmussen & Williams (2006), "Gaussian Processes for Machine Learning", equations 2.25 to 2.27; s^2 is estimated
    by maximum likelihood. Beyond `MOST_EXACT` texts, f is represented by its values at some of them, the landmarks
    (projected process approximation, section 8.3.4, a variant of Nyström's method).

    Args:
        kernel: on all training texts, or on the landmarks.
        mean: the weighted mean label.
        coefficients: of the kernel's texts, (texts,).
        factor: Cholesky factor of the texts' covariance, without s^2, (texts, texts), lower triangular.
        learned: with landmarks, the factor of their posterior precision times `noise`, (texts, texts); else empty.
        variance: s^2, the scale's units squared.
        noise: variance of the noise of a text of weight 1, in units of s^2.
        stretch: factor of a prediction's distance from the mean; the error that it adds enters the SD.
    """

    kernel: LayerKernel
    mean: float
    coefficients: Floats
    factor: Floats
    learned: Floats
    variance: float
    noise: float
    stretch: float = 1.0

    @classmethod
    def exact(cls, kernel: LayerKernel, factor: Floats, seen: Observed, noise: float) -> Self:
        """Fit to all texts of the kernel.

        Args:
            kernel: of these texts.
            factor: lower Cholesky factor of their covariance ``K + noise W^-1``, (texts, texts).
            seen: their labels and weights.
            noise: see the class.
        """
        centred = seen.labels - seen.mean
        coefficients = cho_solve((factor, True), centred)
        variance = float(centred @ coefficients / len(centred))
        return cls(kernel, seen.mean, coefficients, factor, np.empty((0, 0)), variance, noise)

    @classmethod
    def projected(
        cls, kernel: LayerKernel, gram: Floats, seen: Observed, noise: float, parts: Iterator[Floats]
    ) -> Self:
        """Fit to more texts than the kernel has, by means of landmarks.

        Args:
            kernel: its texts are the landmarks.
            gram: their similarities, (landmarks, landmarks).
            seen: labels of all texts.
            noise: see the class.
            parts: similarities to the landmarks, (texts, landmarks), in consecutive parts of the texts.
        """
        centred = seen.labels - seen.mean
        precision, target, start = noise * gram, np.zeros(len(gram)), 0
        for part in parts:
            rows = slice(start, start + len(part))
            weighted = part * seen.weights[rows, None]
            precision += weighted.T @ part
            target += weighted.T @ centred[rows]
            start = rows.stop
        learned, factor = covariance_factor(precision, 1e-6), covariance_factor(gram, 1e-6)
        coefficients = cho_solve((learned, True), target)
        variance = float((centred @ (seen.weights * centred) - target @ coefficients) / (noise * len(centred)))
        return cls(kernel, seen.mean, coefficients, factor, learned, variance, noise)

    def predict(self, features: Singles, words: Any = None) -> Predictions:
        """Return scores of new texts, (new,), and the SD of their labels, which combines uncertainty of f and noise.

        Args:
            features: in all layers, (new, layers, hidden).
            words: their TF-IDF, if the kernel has words.
        """
        parts = [slice(first, first + PART) for first in range(0, max(len(features), 1), PART)]
        predictions = [self.predict_near(*self.kernel.to_training(features[part], _of(words, part))) for part in parts]
        scores, sds = zip(*predictions, strict=True)
        return Predictions(np.concatenate(scores), np.concatenate(sds))

    def predict_near(self, similarity: Floats, with_itself: Floats) -> Predictions[Floats]:
        """Return the same as `predict`, from similarities by `LayerKernel.to_training`: (new, texts) and (new,)."""
        unexplained = with_itself - _explained(self.factor, similarity)
        if self.learned.size:
            unexplained += self.noise * _explained(self.learned, similarity)
        rise = similarity @ self.coefficients
        error = self.variance * (np.maximum(unexplained, 0) + self.noise) + np.square((self.stretch - 1) * rise)
        return Predictions(self.mean + self.stretch * rise, np.sqrt(error))

    def fitted_scores(self, seen: Observed) -> Floats | None:
        """Return the scores of the training texts, (texts,), which need no similarities; None with landmarks.

        ``C a = y - mean`` and ``C = K + noise / weight``, so that ``K a = y - mean - noise a / weight``.

        Args:
            seen: what the model was fitted to; its spread must be raw.
        """
        if self.learned.size:
            return None
        return np.asarray(seen.labels - self.noise / seen.weights * self.coefficients)

    def spread_as(self, spread: PredictedSpread, predicted: Floats, seen: Observed) -> Self:
        """Return the same model with another spread of its predictions.

        Args:
            spread: ``raw`` keeps the predictions, for the lowest RMSE; ``linear`` maps them to the labels by least
                squares; ``matched`` shifts and stretches them to the labels' mean and SD, for the highest CCC.
            predicted: predictions for texts whose labels the model did not see, such as those of `LeftOut`, (texts,).
            seen: the labels and weights of these texts. If `predicted` does not vary, nothing changes.
        """
        centre = float(np.average(predicted, weights=seen.weights))
        rise, centred = predicted - centre, seen.labels - seen.mean
        variance = np.average(np.square(rise), weights=seen.weights)
        if spread == "raw" or variance == 0:
            return self
        if spread == "linear":
            factor = float(np.average(rise * centred, weights=seen.weights) / variance)
            mean = seen.mean + factor * (self.mean - centre)
            return replace(self, mean=mean, coefficients=factor * self.coefficients)
        factor = float(np.sqrt(np.average(np.square(centred), weights=seen.weights) / variance))
        return replace(self, mean=seen.mean + factor * (self.mean - centre), stretch=factor)

    def arrays(self) -> dict[str, Any]:
        """Return all numbers by name, ready for a safetensors file; `from_arrays` reads them."""
        kernel, words = self.kernel, self.kernel.words
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in OWN_ARRAYS}
        arrays |= {f"kernel.{name}": np.ascontiguousarray(getattr(kernel, name)) for name in KERNEL_ARRAYS}
        arrays["kernel.first_layer"] = np.array([kernel.first_layer])
        if words is not None:
            arrays |= {f"words.{part}": getattr(words, part) for part in SPARSE}
            arrays["words.terms"] = np.array(words.shape[1:])
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Return the regression that `arrays` describes.

        Raises:
            KeyError: an array is missing.
        """
        of_kernel = {name: arrays[f"kernel.{name}"] for name in KERNEL_ARRAYS}
        words = None
        if "words.terms" in arrays:
            shape = (len(of_kernel["rows"]), int(arrays["words.terms"][0]))
            words = csr_matrix(tuple(arrays[f"words.{part}"] for part in SPARSE), shape=shape)
        complete = {"stretch": [1.0], **arrays}  # older files have no stretch
        numbers = {name: complete[name] for name in OWN_ARRAYS}
        numbers |= {name: float(complete[name][0]) for name in ("mean", "variance", "noise", "stretch")}
        return cls(kernel=LayerKernel(int(arrays["kernel.first_layer"][0]), words=words, **of_kernel), **numbers)


class Design:
    """The inputs of a regression: texts without labels. Fits to different labels share all that depends on texts only.

    Args:
        features: of the training texts, in all layers from the input embeddings on, (texts, layers, hidden).
        words: their TF-IDF, sparse, (texts, terms), or None.
        kept: whether inverses stay in memory for fits to other labels: at most 15 matrices (texts, texts) in float32.
    """

    def __init__(self, features: Singles, words: Any, kept: bool = False) -> None:
        self.features, self.words = features, words
        self.rows = spaced(features, LANDMARKS)  # the texts that layers and noise are chosen on
        starts = first_layers(features.shape[1])
        self.kernels = list(LayerKernel.nested(features[self.rows], _of(words, self.rows), starts))
        grams = [gram for _, gram in self.kernels]
        self._left_out = lru_cache(maxsize=len(grams) * len(NOISES) if kept else 1)(partial(_left_out, grams))
        self._factor = lru_cache(maxsize=1)(partial(_factor, grams))

    @staticmethod
    def kept_bytes(texts: int, layers: int, hidden: int) -> int:
        """Return about how many bytes a design with `kept` takes: features twice, and matrices (texts, texts)."""
        return 4 * texts * (2 * layers * hidden + len(FIRST_LAYERS) * (2 + len(NOISES)) * texts)

    def fit(self, seen: Observed, spread: PredictedSpread = "raw") -> ExactRegression:
        """Fit with the layers, then the noise, that predict the labels of left-out authors best, in squared error.

        Args:
            seen: labels, weights and authors.
            spread: of the predictions, see `ExactRegression.spread_as`; left-out authors determine it too.
        """
        subset, texts = seen.of(self.rows), len(self.features)
        weights = np.asarray(subset.weights, dtype=np.float64).tobytes()
        authors = np.unique(subset.authors, return_inverse=True)[1].astype(np.intp).tobytes()

        def predicted(index: int, noise: float) -> Floats:
            return self._left_out(index, noise, weights, authors).predict(subset.labels)

        def error(index: int, noise: float) -> float:
            return float(subset.weights @ np.square(subset.labels - predicted(index, noise)))

        errors = [error(index, 1.0) for index in range(len(self.kernels))]
        best = int(np.argmin(errors))
        noise = min(NOISES, key=lambda noise: min(errors) if noise == 1 else error(best, noise))
        unseen = subset.labels if spread == "raw" else predicted(best, noise)
        kernel, gram = self.kernels[best]
        if len(self.rows) == texts:
            regression = ExactRegression.exact(kernel, self._factor(best, noise, weights), seen, noise)
        elif texts <= MOST_EXACT:
            ((kernel, gram),) = LayerKernel.nested(self.features, self.words, [kernel.first_layer])
            regression = ExactRegression.exact(kernel, covariance_factor(gram, noise / seen.weights), seen, noise)
        else:
            slices = (slice(first, first + PART) for first in range(0, texts, PART))
            parts = (kernel.to_training(self.features[rows], _of(self.words, rows))[0] for rows in slices)
            regression = ExactRegression.projected(kernel, gram, seen, noise, parts)
        return regression.spread_as(spread, unseen, subset)


def _left_out(grams: Sequence[Floats], index: int, noise: float, weights: bytes, authors: bytes) -> "LeftOut":
    return LeftOut(grams[index], np.frombuffer(weights), np.frombuffer(authors, dtype=np.intp), noise)


def _factor(grams: Sequence[Floats], index: int, noise: float, weights: bytes) -> Floats:
    return covariance_factor(grams[index], noise / np.frombuffer(weights))


class LeftOut:
    """Predicts each text's label without the labels of its author, with a single inversion, in float32.

    With ``C = K + noise W^-1`` and an author's texts A, ``y_A - prediction_A = (C^-1_AA)^-1 (C^-1 (y - mean))_A``
    (Rasmussen & Williams 2006, equation 5.12, for blocks). The mean and the kernel's centre are those of all texts.

    Args:
        gram: similarities of the texts, K, (texts, texts).
        weights: the diagonal of W, (texts,), see `Observed`.
        authors: (texts,); if there is only one author, each text is left out alone.
        noise: see `ExactRegression`.

    Raises:
        InputError: weights differ so much that C is not positive definite in float32.
    """

    def __init__(self, gram: Floats, weights: Floats, authors: npt.NDArray[Any], noise: float) -> None:
        self.weights = weights
        covariance = gram.astype(np.float32, order="F")
        with np.errstate(over="ignore"):
            diagonal = (noise / weights).astype(np.float32)
        covariance[np.diag_indices(len(gram))] += diagonal
        factor, failed = lapack.spotrf(covariance, lower=True, clean=True, overwrite_a=True)
        if failed or not np.isfinite(diagonal).all():
            raise InputError(
                f"plm.train=frozen: the weights of the training labels are too far apart, from {weights.min():.3g} to "
                f"{weights.max():.3g}; choose a larger alpha or application.pool_weight, or plm.train=full"
            )
        self.root: Singles = lapack.strtri(factor, lower=True, overwrite_c=True)[0]  # C^-1 is root' root
        _, author, texts = np.unique(authors, return_inverse=True, return_counts=True)
        if len(texts) == 1:
            author, texts = np.arange(len(gram)), np.ones(len(gram), dtype=np.intp)
        order = np.argsort(author, kind="stable")
        self.own: list[tuple[Ints, Singles]] = []  # by number of texts: the authors' rows and their C^-1_AA
        for count in np.unique(texts):
            rows = order[np.repeat(texts, texts) == count].reshape(-1, count)
            of = self.root.T[rows]
            self.own.append((rows, of @ of.swapaxes(1, 2)))

    def predict(self, labels: Floats) -> Floats:
        """Return each text's prediction from the other authors' labels, (texts,), the labels' units."""
        centred = (labels - np.average(labels, weights=self.weights)).astype(np.float32)
        solved, error = self.root.T @ (self.root @ centred), np.empty(len(centred))
        for rows, inverse in self.own:
            error[rows] = np.linalg.solve(inverse, solved[rows][:, :, None])[:, :, 0]
        return np.asarray(labels - error)


class KernelStudent:
    """An exact student on texts with known similarities, for many fits to subsets of the same texts.

    Args:
        gram: similarities of all texts, (texts, texts).
        noise: see `ExactRegression`.
    """

    def __init__(self, gram: Floats, noise: float) -> None:
        self.gram, self.noise = gram, noise
        self._factor_of = lru_cache(maxsize=16)(self._factor)

    def predict(self, rows: Ints, labels: Floats, weights: Floats, new: Ints) -> Floats:
        """Fit to the texts `rows` with these labels and weights, all (rows,), and score the texts `new`, (new,)."""
        seen = Observed(labels, weights / weights.mean(), rows)
        factor = self._factor_of(rows.tobytes(), seen.weights.tobytes())
        coefficients = cho_solve((factor, True), labels - seen.mean)
        return np.asarray(seen.mean + self.gram[np.ix_(new, rows)] @ coefficients)

    def _factor(self, rows: bytes, weights: bytes) -> Floats:
        at = np.frombuffer(rows, dtype=np.intp)
        return covariance_factor(self.gram[np.ix_(at, at)], self.noise / np.frombuffer(weights))


def spaced(features: Singles, most: int) -> Ints:
    """Return at most `most` rows, all if possible, that depend on the texts but not on their order."""
    if len(features) <= most:
        return np.arange(len(features))
    order = np.argsort(features[:, -1, 0], kind="stable")
    return np.sort(order[np.linspace(0, len(order) - 1, most).round().astype(int)])


def _of(words: Any, rows: "Ints | slice") -> Any:
    return None if words is None else words[rows]


def covariance_factor(gram: Floats, noise: "Floats | float") -> Floats:
    """Return the lower Cholesky factor of `gram` with `noise` added to its diagonal, (texts, texts)."""
    matrix = gram.copy()
    matrix[np.diag_indices(len(gram))] += noise
    return np.asarray(cholesky(matrix, lower=True, overwrite_a=True))


def _explained(factor: Floats, similarity: Floats) -> Floats:
    """Return ``k C^-1 k'`` for each row k of `similarity`, (new,), from the Cholesky factor of C."""
    return np.asarray(np.square(solve_triangular(factor, similarity.T, lower=True)).sum(axis=0))
