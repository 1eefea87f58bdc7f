"""The generator of paper 1: a DCGAN, how it trains, and which of its states generates."""
