"""final: the baseline's classifier and settings on the enriched training table (real and synthetic images).

python -m stages.final --table data/balanced/table.parquet --synthetic data/balanced/images --stores
data/stores/chexpert ...
"""

from stages.baseline import run
from stages.cli import main

if __name__ == "__main__":
    main(run)
