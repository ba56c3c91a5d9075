"""Linear probes: what a frozen layer already knows about a task, read out by the simplest classifier there is.

The body never changes, so its features are computed once and kept; every probe after that costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lessons_lib.checks import check_choice, check_range, check_tensor

Kind = Literal["svm", "softmax"]

# C for features of unit variance whose squared length is about 1: fixed, so that no probe is tuned to its test
_STRENGTH: Mapping[Kind, float] = {"svm": 1.0, "softmax": 10.0}


class Probe:
    """A linear classifier on features of a frozen layer: a support vector machine, or softmax regression.

    Features are standardised by their mean and spread on the training pictures. The penalty is the same for all
    layers, relative to the length of their vectors, and is not tuned.

    Args:
        kind: "svm" (hinge loss, one class against the rest) or "softmax" (cross-entropy).
        seed: of the order in which the support vector machine visits the pictures.

    Raises:
        ValueError: for another kind.
    """

    def __init__(self, kind: Kind = "svm", *, seed: int = 0) -> None:
        check_choice("kind of probe", kind, Kind)
        self.kind = kind
        self.seed = seed

    def fit(self, features: Tensor, labels: Tensor) -> Probe:
        """Learn from features (N, D) with labels (N,) of at least two classes.

        Raises:
            ValueError: for features of another shape, NaN, or a single class.
        """
        # scikit-learn takes a second to import, and the training script may do without
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
        from sklearn.svm import LinearSVC  # noqa: PLC0415

        check_tensor("features", features, "N D", finite=True)
        check_range("the number of classes", len(labels.unique()), 2)
        self.mean = features.double().mean(0)
        spread = features.double().std(0, correction=0)
        self.scale = torch.where(spread > 1e-7, spread, 1.0)
        strength = _STRENGTH[self.kind] / features.shape[1]
        self._classifier = (
            LinearSVC(C=strength, random_state=self.seed, max_iter=10_000)
            if self.kind == "svm"
            else LogisticRegression(C=strength, max_iter=2_000)
        ).fit(self._standard(features), labels.numpy())
        return self

    def predict(self, features: Tensor) -> Tensor:
        """The most likely class of each row of features (N, D), int64 (N,)."""
        return torch.from_numpy(self._classifier.predict(self._standard(features)))

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share right, 0–1."""
        return (self.predict(features) == labels).double().mean().item()

    def linear(self) -> tuple[Tensor, Tensor]:
        """The same classifier as weights (classes, D) and bias (classes,) of a linear layer, for raw features."""
        weight = torch.from_numpy(np.atleast_2d(self._classifier.coef_))
        bias = torch.from_numpy(np.atleast_1d(self._classifier.intercept_))
        if len(weight) == 1:  # of two classes scikit-learn keeps only the second's score against the first
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        weight = weight / self.scale
        return weight.float(), (bias - weight @ self.mean).float()

    def _standard(self, features: Tensor) -> np.ndarray:
        return ((features.double() - self.mean) / self.scale).numpy()
