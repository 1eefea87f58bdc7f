"""Paper 2: the Auxiliary Deep Generative Model, its variants and its controls."""
