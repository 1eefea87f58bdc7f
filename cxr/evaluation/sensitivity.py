"""What the uncertain test labels decide: AUCs with them left out, all counted as 0, and all as 1.

Leaving them out keeps the easy cases: an image whose report hedges is one that is hard to read. The three AUCs bound no
truth, but a conclusion that changes between them rests on the labels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr.core.findings import SLUGS, columns_of
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import Models, Settings, auc_rows, enough, model_areas
from cxr.evaluation.names import RULES, frame


def table(models: Models, settings: Settings) -> pd.DataFrame:
    """The table uncertain (cxr/evaluation/names.py): AUCs of the models on test images under each of RULES, means over
    the trainings.

    uncertain: number of uncertain labels. The means over findings (macro) are over the same findings under every rule:
    those with an AUC when uncertain labels are left out.
    """
    rows = []
    for model, trainings in models.items():
        tests = [predicted[predicted["split"] == "test"] for predicted in trainings]
        draws = metrics.draw_patients(tests[0]["patient_id"], settings.replicates, settings.seed)
        truth = columns_of(tests[0], "truth")
        uncertain, first = np.isnan(truth), enough(truth, settings)
        counts = [*uncertain.sum(axis=0), int(uncertain.sum())]
        for rule, value in RULES.items():
            filled = np.where(uncertain, np.float32(value), truth)
            columns = {f"truth.{name}": filled[:, k] for k, name in enumerate(SLUGS)}
            scored = [test.assign(**columns) for test in tests]
            areas = [model_areas(table, draws, settings) for table in scored]
            lines = auc_rows(scored[0], areas, settings)
            lines[-1] = auc_rows(scored[0], [one._replace(known=first) for one in areas], settings)[-1]
            head = {"model": model, "rule": rule, "patients": len(draws.counts)}
            rows += [head | line | {"uncertain": n} for line, n in zip(lines, counts, strict=True)]
    return frame("uncertain", rows)
