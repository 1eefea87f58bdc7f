"""AUCs with a patient bootstrap, beside a loop over roc_auc_score; DeLong's test at full size.

python -m benchmarks.numbers
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.timing import Line, agree, alone, main, side_by_side
from cxr.core.findings import FINDINGS
from cxr.evaluation.metrics import Draws, auc, bootstrap_auc, delong_test, draw_patients

K = len(FINDINGS)


def predictions(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(truth N x K of 1 and 0, scores of two models N x K each, patients N): prevalences from 2 to 40 %, three images
    a patient.
    """
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, K)) < np.linspace(0.02, 0.4, K)).astype(np.float64)
    first = truth + rng.normal(0, 1.2, (n, K))
    second = first + rng.normal(0, 0.5, (n, K))
    return truth, first.astype(np.float32), second.astype(np.float32), np.array([f"p{i // 3}" for i in range(n)])


def plain_bootstrap(truth: np.ndarray, scores: np.ndarray, draws: Draws, replicates: int) -> np.ndarray:
    """K x replicates by roc_auc_score on the drawn patients' rows, one finding and one replicate at a time."""
    from sklearn.metrics import roc_auc_score

    found = np.empty((truth.shape[1], replicates))
    for b in range(replicates):
        rows = np.repeat(np.arange(len(truth)), draws.counts[draws.owner, b])
        for k in range(truth.shape[1]):
            found[k, b] = roc_auc_score(truth[rows, k], scores[rows, k])
    return found


def plain_delong(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """z by the definition: every positive against every negative."""
    parts = []
    for scores in (first, second):
        a, b = scores[truth == 1][:, None], scores[truth == 0][None]
        right = (a > b) + 0.5 * (a == b)
        parts.append((right.mean(1), right.mean(0)))
    by_positive, by_negative = (np.cov(np.stack(side)) for side in zip(*parts, strict=True))
    S = by_positive / len(parts[0][0]) + by_negative / len(parts[0][1])
    return float((parts[1][0].mean() - parts[0][0].mean()) / np.sqrt(S[0, 0] + S[1, 1] - 2 * S[0, 1]))


def lines(quick: bool) -> Iterator[Line]:
    n, replicates, fewer = (300, 20, 10) if quick else (10_000, 1_000, 25)
    truth, scores, _, patients = predictions(n)

    def ours() -> np.ndarray:
        draws = draw_patients(patients, replicates, 0)
        return np.c_[auc(truth, scores), bootstrap_auc(truth, scores, draws)]

    def plain() -> np.ndarray:
        from sklearn.metrics import roc_auc_score

        whole = [roc_auc_score(truth[:, k], scores[:, k]) for k in range(K)]
        return np.c_[whole, plain_bootstrap(truth, scores, draw_patients(patients, replicates, 0), fewer)]

    yield side_by_side(
        f"AUC with a patient bootstrap, {K} findings, {n:,} predictions, {replicates:,} replicates"
        f" (the plain way makes {fewer} of them)",
        ours,
        plain,
        lambda a, b: agree(float(np.abs(a[:, : fewer + 1] - b).max()), 1e-9, "largest difference of an AUC"),
        unit="replicate",
        per=replicates,
        plain_per=fewer,
        repeats=1 if quick else 5,
        bar=50,
    )

    n = 1_000 if quick else 100_000
    truth, first, second, _ = predictions(n)
    few = predictions(1_000)
    columns = [[v[:, k] for v in few[:3]] for k in range(K)]
    apart = float(np.max([abs(delong_test(*column).z / plain_delong(*column) - 1) for column in columns]))
    yield alone(
        f"DeLong, {K} findings, two models, {n:,} predictions",
        lambda: [delong_test(truth[:, k], first[:, k], second[:, k]) for k in range(K)],
        2,
        agree(apart, 1e-6, "relative difference of z by the definition, 1,000 predictions"),
        repeats=1 if quick else 5,
    )


if __name__ == "__main__":
    main(lines)
