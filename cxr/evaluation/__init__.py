"""Predictions -> numbers. No torch."""
