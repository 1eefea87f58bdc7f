"""selftrain: the baseline's classifier on the labels that relabel wrote: U-SelfTrained's student.

It starts as every baseline does (classifier.weights), not from its teacher's weights: Irvin et al. 2019 do not say, and
so the policies differ in their labels alone.

python -m stages.selftrain --table data/labels/u_selftrained.parquet --stores data/stores/chexpert ...
"""

from stages.baseline import run
from stages.cli import main

if __name__ == "__main__":
    main(run)
