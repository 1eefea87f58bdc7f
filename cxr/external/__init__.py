"""Other hospitals' data: what their labels mean, whom a model has seen, and a model's scores on them."""
