"""From image files to calibrated probabilities with a trained classifier, and what is refused on the way."""
