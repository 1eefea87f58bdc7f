"""The papers' own numbers against the published label tables and against their own arithmetic."""
