"""The command `cxr`, also as `python -m cxr`: the commands of stages/, which a wheel holds inside cxr/."""

from importlib import import_module
from importlib.util import find_spec


def main() -> None:
    """Run the command line of this process, and exit."""
    import_module("cxr.stages.__main__" if find_spec("cxr.stages") else "stages.__main__").main()


if __name__ == "__main__":
    main()
