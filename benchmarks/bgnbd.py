"""The BG/NBD model of how often customers buy: what a network for purchases should beat."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln, hyp2f1


@dataclass(frozen=True)
class BGNBD:
    """Customers buy at random at their own rate and leave at random after a purchase.

    Rates are gamma distributed (shape r, rate alpha), probabilities of leaving beta distributed
    (a, b), over the customers.

    References:
        Fader, Hardie and Lee, "'Counting your customers' the easy way: an alternative to the
        Pareto/NBD model", Marketing Science 24 (2005), equations 6 and 10.
    """

    r: float
    alpha: float
    a: float
    b: float

    @classmethod
    def fit(cls, repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> "BGNBD":
        """The model of maximum likelihood.

        Args:
            repeats: Purchases after the first one [customer].
            last: Time of the last one since the first one [customer].
            age: Time since the first one [customer].
        """
        found = minimize(
            lambda logs: -cls(*np.exp(logs)).log_likelihood(repeats, last, age).mean(),
            np.zeros(4),
            method="Nelder-Mead",
            options={"xatol": 1e-6, "fatol": 1e-10, "maxiter": 4000},
        )
        return cls(*map(float, np.exp(found.x)))

    def log_likelihood(self, repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> np.ndarray:
        """Of each customer [customer]; see `fit`."""
        r, alpha, a, b, x = self.r, self.alpha, self.a, self.b, repeats
        common = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        common += gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
        stayed = -(r + x) * np.log(alpha + age)
        left = np.log(a / (b + np.maximum(x, 1) - 1)) - (r + x) * np.log(alpha + last)
        return common + np.logaddexp(stayed, np.where(x > 0, left, -np.inf))

    def expected(
        self, repeats: np.ndarray, last: np.ndarray, age: np.ndarray, *, time: float
    ) -> np.ndarray:
        """Expected purchases of each customer over the coming `time` [customer]; see `fit`."""
        r, alpha, a, b, x = self.r, self.alpha, self.a, self.b, repeats
        begun, ended = alpha + age, alpha + age + time
        power = hyp2f1(r + x, b + x, a + b + x - 1, time / ended)
        coming = (a + b + x - 1) / (a - 1) * (1 - (begun / ended) ** (r + x) * power)
        gone = a / (b + np.maximum(x, 1) - 1) * (begun / (alpha + last)) ** (r + x)
        return coming / (1 + np.where(x > 0, gone, 0.0))
