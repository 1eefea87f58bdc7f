"""The report: everything on one page."""
