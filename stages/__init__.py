"""One thin Typer command per pipeline stage: options, read, call cxr, write."""
