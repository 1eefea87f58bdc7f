"""study: the baseline's classifier on the table of one control arm, under one seed.

python -m stages.study --table data/arms/gan/table.parquet --synthetic data/arms/gan/images --arm data/arms/gan/arm.json
--trial 1 ...
"""

from stages.baseline import run
from stages.cli import main

if __name__ == "__main__":
    main(run)
