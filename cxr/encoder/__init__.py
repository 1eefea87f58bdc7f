"""An encoder of X-rays that learns from images alone, for training with few labels."""
