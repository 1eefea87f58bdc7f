"""This project beside the plain way, timed in turns in one process, and the results compared.

python -m benchmarks             every line, and docs/benchmarks.md
python -m benchmarks.resize      one script alone; --quick at the smallest size that still checks the results
"""
