"""What dvc.yaml must list as a stage's code: python tests/closure.py gan adgm"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def closure(path: Path) -> list[str]:
    """Every file of the repository that running `path` may import, itself included, sorted, relative to the root."""
    from stages.state import closure as files

    return [file.relative_to(ROOT).as_posix() for file in files(path)]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for name in sys.argv[1:]:
        print(name, *closure(ROOT / "stages" / f"{name}.py"), sep="\n  ")
