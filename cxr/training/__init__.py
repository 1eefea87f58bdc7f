"""What every training shares: machine, batches, checkpoints, weights, running average."""
