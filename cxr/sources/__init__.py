"""Where radiographs come from (tree.py, fetch.py), and a reader per dataset that makes them canonical records."""
