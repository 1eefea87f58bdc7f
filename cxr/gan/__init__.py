"""GANs: paper 1's DCGAN, its losses, how it trains and which of its states generates; and a projection GAN."""
