"""Fast algebra for `joint`: the marginal likelihood of all raters' ratings, and their information on the truth.

Ratings y_ir of texts i by raters r are normal with mean mu_r and ``cov(y_ir, y_jq) = K_ij C_rq + [i = j] D_rq``. The
truths are ``t ~ N(0, T)`` with ``cov(t_i, y_jr) = T_ij b_r``, so their posterior depends on the ratings only by::

    a_i = sum_r b_r [Sigma^-1 (y - mu)]_ir        B_ij = sum_rq b_r b_q [Sigma^-1]_ir,jq
    mean = T a                                    covariance = T - T B T
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from invitro.errors import InputError
from invitro.stats import Floats

LOG_2PI = float(np.log(2 * np.pi))
MOST_CUBED = 8000
"""Most ratings or gaps, whichever are fewer: memory grows with the square of their number, time with its cube."""


class RatingMoments(NamedTuple):
    """Mean mu and scale b, both (raters,), and covariances C between texts and D within a text, (raters, raters)."""

    mean: Tensor
    scale: Tensor
    between: Tensor
    within: Tensor


class Rotated:
    """Ratings in the eigenbasis of the kernel, where rows are independent; gaps are removed afterwards.

    With ``K = U diag(lambda) U'`` row k of U'(y - mu) has the covariance ``lambda_k C + D``, which gives P = Sigma^-1
    of the whole table (Rakitsch et al. 2013, "It is all in the noise", NIPS 26). With gaps g, whose residuals are set
    to 0::

        log|Sigma_observed| = log|Sigma| + log|P_gg|,    Sigma_observed^-1 = P - P_.g P_gg^-1 P_g.

    Args:
        ratings: (texts, raters), NaN if missing.
        kernel: K, (texts, texts).
    """

    def __init__(self, ratings: Floats, kernel: Floats) -> None:
        values, vectors = np.linalg.eigh(kernel)
        observed = ~np.isnan(ratings)
        self.values, self.vectors = torch.tensor(values.clip(min=0))[:, None, None], torch.tensor(vectors)
        self.observed = int(observed.sum())
        # U'(y - mu) with residuals of 0 in the gaps
        self.rotated, self.rotated_ones = (
            torch.tensor(vectors.T @ table) for table in (np.where(observed, ratings, 0.0), observed.astype(np.float64))
        )
        self.gaps = [(r, self.vectors[~column]) for r, column in enumerate(observed.T) if not column.all()]

    def log_density(self, at: RatingMoments) -> Tensor:
        """Return the marginal log likelihood, differentiable."""
        root = torch.linalg.cholesky(self.values * at.between + at.within)
        precision, rotated = torch.cholesky_inverse(root), self.rotated - self.rotated_ones * at.mean
        pulled = torch.einsum("krq,kq->kr", precision, rotated)
        squares: Tensor = (rotated * pulled).sum()
        log_det: Tensor = 2 * root.diagonal(dim1=1, dim2=2).log().sum()
        if self.gaps:
            root, at_gaps = self._gaps_of(precision, pulled)
            squares, log_det = squares - at_gaps.square().sum(), log_det + 2 * root.diagonal().log().sum()
        return -0.5 * (squares + log_det + self.observed * LOG_2PI)

    def information(self, at: RatingMoments) -> tuple[Floats, Floats]:
        """Return a, (texts,), and B, (texts, texts)."""
        precision = torch.linalg.inv(self.values * at.between + at.within)
        pulled = torch.einsum("krq,kq->kr", precision, self.rotated - self.rotated_ones * at.mean)
        of_truth = precision @ at.scale
        pull, information = self.vectors @ pulled @ at.scale, (self.vectors * (of_truth @ at.scale)) @ self.vectors.T
        if self.gaps:
            root, at_gaps = self._gaps_of(precision, pulled)
            rows = torch.cat([(vectors * of_truth[:, r]) @ self.vectors.T for r, vectors in self.gaps])
            lost = torch.linalg.solve_triangular(root, rows, upper=False)
            pull, information = pull - lost.T @ at_gaps, information - lost.T @ lost
        return pull.numpy(), information.numpy()

    def _gaps_of(self, precision: Tensor, pulled: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Cholesky factor L of P_gg, and L^-1 P_g y."""
        block = torch.cat([
            torch.cat([(rows * precision[:, r, q]) @ columns.T for q, columns in self.gaps], dim=1)
            for r, rows in self.gaps
        ])  # fmt: skip
        root = torch.linalg.cholesky(block)
        at_gaps = torch.cat([rows @ pulled[:, r] for r, rows in self.gaps])
        return root, torch.linalg.solve_triangular(root, at_gaps[:, None], upper=False)[:, 0]


class Dense:
    """Existing ratings with their own covariance matrix, for tables that are mostly gaps.

    Args:
        ratings: (texts, raters), NaN if missing.
        kernel: K, (texts, texts).
    """

    def __init__(self, ratings: Floats, kernel: Floats) -> None:
        self.text, self.rater = (torch.tensor(index) for index in np.nonzero(~np.isnan(ratings)))
        self.ratings, self.texts = torch.tensor(ratings)[self.text, self.rater], len(ratings)
        self.kernel = torch.tensor(kernel)[self.text][:, self.text]
        self.same = self.text[:, None] == self.text

    def log_density(self, at: RatingMoments) -> Tensor:
        """Return the marginal log likelihood, differentiable."""
        root, residual = self._whitened(at)
        return -0.5 * (residual.square().sum() + 2 * root.diagonal().log().sum() + len(residual) * LOG_2PI)

    def information(self, at: RatingMoments) -> tuple[Floats, Floats]:
        """Return a, (texts,), and B, (texts, texts)."""
        root, residual = self._whitened(at)
        of_text = torch.zeros(len(self.ratings), self.texts, dtype=torch.float64)
        of_text[torch.arange(len(self.ratings)), self.text] = at.scale[self.rater]
        of_text = torch.linalg.solve_triangular(root, of_text, upper=False)
        return (of_text.T @ residual).numpy(), (of_text.T @ of_text).numpy()

    def _whitened(self, at: RatingMoments) -> tuple[Tensor, Tensor]:
        """Return the Cholesky factor L of the covariance, and L^-1 (y - mu)."""
        between, within = (matrix[self.rater][:, self.rater] for matrix in (at.between, at.within))
        root = torch.linalg.cholesky(self.kernel * between + self.same * within)
        residual = (self.ratings - at.mean[self.rater])[:, None]
        return root, torch.linalg.solve_triangular(root, residual, upper=False)[:, 0]


def cheapest(ratings: Floats, kernel: Floats) -> Rotated | Dense:
    """Return the cheaper form of the likelihood, which inverts the gaps' block or the ratings' covariance.

    Raises:
        InputError: both need too much memory.
    """
    observed, gaps = int(np.isfinite(ratings).sum()), int(np.isnan(ratings).sum())
    if min(observed, gaps) > MOST_CUBED:
        raise InputError(
            f"{observed} ratings in a table with {gaps} gaps: expected at most {MOST_CUBED} of either; "
            "put the ratings of several people into one column, or fit on fewer texts"
        )
    operations = 2 * gaps**2 * len(ratings) + gaps**3
    return Rotated(ratings, kernel) if operations <= observed**3 else Dense(ratings, kernel)
