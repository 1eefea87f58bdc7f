"""Chest X-rays: generated images and few labels, as one pipeline.

Each package holds one idea: core (what every stage stands on), data (a source -> packed images), cohort (records ->
splits and label tables), training (the loop and what it needs), classifier, gan and adgm (the networks), synthesis
(generated X-rays into the training table), fidelity (how good they are), evaluation (predictions -> numbers), audit
(the papers' own numbers), explain (heat maps), report (the page), predict (X-rays of one's own -> probabilities).
papers.py holds what the two papers print.
"""

__version__ = "0.2.0"
