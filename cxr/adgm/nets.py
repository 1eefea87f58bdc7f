"""The auxiliary deep generative model (ADGM): five networks that learn a classifier from few labels and many images.

Generative model P = p(y) p(z) p(a|z,y,x) p(x|z,y), inference model Q = q(a|x) q(y|a,x) q(z|a,y,x): equations 1-11 of
Cerri & Fraccaro, "Semi-supervised chest X-ray pneumonia classification using auxiliary deep generative models", after
Maaloe et al. 2016. The nets and the bound are here, the training is in cxr/adgm/train.py. The sizes are those of the
paper's published code; that code's own bound is in cxr/adgm/published.py. Intended differences from it:

- eq. 10 is printed with the wrong sign: J is minimised, so - alpha log q(y|a,x) is added;
- log sigma^2 is free, where the code's softplus keeps every sigma at 1 or more; a smooth bound keeps it finite;
- the encoders see centred pixels, and the decoder starts near their scale;
- one draw of a serves q(y|a,x), the bound and the classification loss; the K labels of an image share its z noise;
- x passes each convolutional trunk once: the labels that the unlabelled bound sums over join in the dense layers.

Pixels are grey levels in [0, 1].
Shapes: N images, C channels, H W pixels, K classes, Z latent, A auxiliary, R rows: (image, label) pairs.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxr.training.wide import WideLinear

CHANNELS = 32
# Roughly those of a radiograph's grey levels. The encoders see (x - MEAN) / SPREAD, the decoder starts at
# N(MEAN, SPREAD^2).
MEAN, SPREAD = 0.5, 0.25
TRUNKS = ("q_a", "q_y", "q_z", "p_a")
# Of batch norm, which follows the ReLU here. A unit that rarely fires has almost no variance: with PyTorch's 1e-5 an
# image that fires it is magnified 300-fold in evaluation, and its bound with it.
EPS = 1e-3
LOG_VAR_BOUND = 8.0  # sigma between 0.018 (5 of 255 grey levels, for a pixel) and 55


def encoder_maps(size: int) -> list[int]:
    """Side of the map after each 5 x 5 convolution of stride 2, until it is at most 6: 225 -> [111, 54, 25, 11, 4]."""
    maps = [(size - 5) // 2 + 1]
    while maps[-1] > 6:
        maps.append((maps[-1] - 5) // 2 + 1)
    return maps


def decoder_maps(size: int) -> list[int]:
    """Side of the decoder's map at its start and after each transposed convolution: 225 -> [13, 27, 55, 111, 225].

    3 x 3 of stride 2 takes s to 2s + 1, the last, 5 x 5 of stride 2, to 2s + 3. A start between 7 and 13 reaches every
    size 2^k t + 1 with t in 8..14. Raises ValueError, naming the nearest sizes that can be reached, for another size.
    """
    fits = [2**k * t + 1 for k in range(1, 12) for t in range(8, 15)]
    if size not in fits:
        below, above = [s for s in fits if s < size][-1:], [s for s in fits if s > size][:1]
        nearest = " or ".join(str(s) for s in sorted({*below, *above}))
        raise ValueError(
            f"adgm.size = {size}: the decoder cannot make images of that size; the nearest sizes that fit: {nearest}"
        )
    maps = [size, (size - 3) // 2]
    while maps[-1] > 13:
        maps.append((maps[-1] - 1) // 2)
    return maps[::-1]


class Gaussian(NamedTuple):
    """A diagonal normal distribution. mu, log_var: of one shape, in float32 at least."""

    mu: Tensor
    log_var: Tensor

    @classmethod
    def from_outputs(cls, mu: Tensor, raw: Tensor) -> Gaussian:
        """From a net's two outputs, of any precision. log sigma^2 is raw near 0 and tends to +-LOG_VAR_BOUND."""
        wide = torch.promote_types(mu.dtype, torch.float32)
        return cls(mu.to(wide), LOG_VAR_BOUND * torch.tanh(raw.to(wide) / LOG_VAR_BOUND))

    def sample(self, noise: Tensor) -> Tensor:
        """Reparametrised: mu + sigma noise, noise ~ N(0, I)."""
        return self.mu + torch.exp(0.5 * self.log_var) * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """log N(value | mu, sigma^2) per row, summed over everything but the first dimension, in nats."""
        square = (value - self.mu) ** 2 * torch.exp(-self.log_var)
        return -0.5 * (square + self.log_var + math.log(2 * math.pi)).flatten(1).sum(1)

    def kl_standard(self, least: float = 0.0) -> Tensor:
        """KL(N(mu, sigma^2) || N(0, I)) per row, in nats. least: what each unit counts at least (free bits)."""
        units = self.mu**2 + torch.exp(self.log_var) - self.log_var - 1
        return 0.5 * (units.clamp(min=2 * least) if least else units).flatten(1).sum(1)

    def rows(self, n_l: int, classes: int) -> Gaussian:
        return Gaussian(rows(self.mu, n_l, classes), rows(self.log_var, n_l, classes))


@contextlib.contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """The nets as in evaluation, without gradients to their weights; afterwards as in training."""
    for net in nets:
        net.eval().requires_grad_(False)
    try:
        yield
    finally:
        for net in nets:
            net.train().requires_grad_(True)


def rows(values: Tensor, n_l: int, classes: int) -> Tensor:
    """A row for each pair of image and label: the n_l labelled images once, each of the others K times. N x ... -> R x
    ... An index would do, but the gradient of one is a sort on a GPU, for it to be the same twice.
    """
    each = values[n_l:, None].expand(-1, classes, *values.shape[1:])
    return torch.cat([values[:n_l], each.flatten(0, 1)])


def dense(sizes: list[int], dropout: float) -> nn.Sequential:
    """Linear layers of these widths, each then ReLU, batch norm, dropout."""
    layers: list[nn.Module] = []
    for below, above in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(below, above), nn.ReLU(inplace=True), nn.BatchNorm1d(above, eps=EPS), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def log_shares(logits: Tensor) -> Tensor:
    """The log of the softmax of logits N x K, in float32 at least."""
    return F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=1)


class Trunk(nn.Sequential):
    """x: N x 1 x H x W -> N x `features`: 5 x 5 convolutions of stride 2, each then ReLU, batch norm, dropout."""

    def __init__(self, size: int, dropout: float) -> None:
        maps = encoder_maps(size)
        layers: list[nn.Module] = []
        for depth in range(len(maps)):
            layers += [
                nn.Conv2d(CHANNELS if depth else 1, CHANNELS, 5, stride=2),
                nn.ReLU(inplace=True),
                nn.BatchNorm2d(CHANNELS, eps=EPS),
                nn.Dropout2d(dropout),
            ]
        super().__init__(*layers, nn.Flatten())
        self.features = CHANNELS * maps[-1] ** 2
        self.mean, self.spread = MEAN, SPREAD

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mean) / self.spread)


class Encoder(nn.Module):
    """A normal distribution over `out` values, given x and further vectors with `given` values in all."""

    def __init__(self, trunk: nn.Module, given: int, out: int, dropout: float) -> None:
        super().__init__()
        self.trunk = trunk
        self.dense = dense([self.trunk.features + given, 256], dropout)
        self.mu = WideLinear(256, out)
        self.log_var = WideLinear(256, out)

    gaussian = staticmethod(Gaussian.from_outputs)  # cxr/adgm/published.py has another

    def forward(self, features: Tensor, *given: Tensor) -> Gaussian:
        """features: R x F, this net's trunk applied to x. given: R x ... each."""
        h = self.dense(torch.cat([features, *given], dim=1))  # R x 256
        return self.gaussian(self.mu(h), self.log_var(h))


class Classifier(nn.Module):
    """q(y|a,x), eq. 6, with a trunk of its own."""

    def __init__(self, trunk: nn.Module, a_dim: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.trunk = trunk
        self.dense = dense([self.trunk.features + a_dim, 128, 32], dropout)
        self.out = WideLinear(32, classes)

    def forward(self, features: Tensor, a: Tensor) -> Tensor:
        """features: N x F, a: N x A -> log q(y|a,x), N x K in float32 at least."""
        return log_shares(self.out(self.dense(torch.cat([features, a], dim=1))))


class Decoder(nn.Module):
    """p(x|z,y), eq. 4: dense layers and transposed convolutions.

    The paper's two parallel last convolutions, to mu and to log sigma^2, are the two output channels of one.
    """

    def __init__(self, size: int, z_dim: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.maps = decoder_maps(size)
        self.dense = dense([z_dim + classes, 256, 512, 1024, 2048, CHANNELS * self.maps[0] ** 2], dropout)
        layers: list[nn.Module] = []
        for _ in self.maps[1:-1]:
            layers += [
                nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, stride=2),
                nn.ReLU(inplace=True),
                nn.BatchNorm2d(CHANNELS, eps=EPS),
                nn.Dropout2d(dropout),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.mu_log_var = nn.ConvTranspose2d(CHANNELS, 2, 5, stride=2)
        # Start near the scale of grey levels: from PyTorch's start hundreds of steps are spent on reaching it.
        self.mu_log_var.weight.data *= 0.1
        self.mu_log_var.bias.data = torch.tensor([MEAN, 2 * math.log(SPREAD)])

    gaussian = staticmethod(Gaussian.from_outputs)

    def forward(self, z: Tensor, y: Tensor) -> Gaussian:
        """z: R x Z, y: R x K one-hot -> a distribution over R x 1 x H x W."""
        h = self.dense(torch.cat([z, y], dim=1)).unflatten(1, (CHANNELS, self.maps[0], self.maps[0]))
        h = self.convolutions(h.contiguous(memory_format=torch.channels_last))  # R x C x H/2 x W/2
        return self.gaussian(*self.mu_log_var(h).chunk(2, dim=1))


class Terms(NamedTuple):
    """The terms of one batch, per image: of the labelled images, except U. Bounds and divergences in nats."""

    L: Tensor  # eq. 8, the bound on -log p(x,y)
    U: Tensor  # eq. 9, the bound on -log p(x), unlabelled images
    ce: Tensor  # -log q(y|a,x)
    KL_z: Tensor
    KL_a: Tensor
    mu_z: Tensor  # N_l x Z, mean of q(z|a,y,x)
    mu_a: Tensor  # N_l x A, mean of q(a|x)
    log_q_y: Tensor  # N_l x K


class ADGM(nn.Module):
    """The five networks and the bound.

    x passes trunks and leaves a decoder of the two kinds; cxr/adgm/feature_nets.py has others.

    size: what they take, the side of the images, one that
    decoder_maps accepts. likelihood_weight: factor of the log-likelihood, which is
    summed over an image's pixels, in (0, 1]; 1 is the true bound. free_bits: nats that each unit of z costs in the
    bound even when it carries less, so that emptying it gains nothing (Kingma et al. 2016, Improved variational
    inference with inverse autoregressive flow, section C.8; per image instead of per minibatch). use_z: if False, z is
    0 and costs nothing: p(x|y), p(a|y,x). Raises ValueError for a size that does not fit.
    """

    trunk_kind: ClassVar[type] = Trunk
    decoder_kind: ClassVar[type] = Decoder

    def __init__(
        self,
        *,
        size: int,
        classes: int,
        z_dim: int = 128,
        a_dim: int = 128,
        dropout: float = 0.2,
        likelihood_weight: float = 1.0,
        free_bits: float = 0.0,
        use_z: bool = True,
    ) -> None:
        super().__init__()
        self.size, self.classes, self.z_dim, self.a_dim = size, classes, z_dim, a_dim
        self.likelihood_weight, self.free_bits, self.use_z = likelihood_weight, free_bits, use_z
        trunk = functools.partial(self.trunk_kind, size, dropout)
        self.p_x = self.decoder_kind(size, z_dim, classes, dropout)  # p(x|z,y)
        self.q_a = Encoder(trunk(), 0, a_dim, dropout)  # q(a|x), eq. 5
        self.q_y = self.classifier(trunk, a_dim, classes, dropout)  # q(y|a,x), eq. 6
        self.q_z = Encoder(trunk(), a_dim + classes, z_dim, dropout)  # q(z|a,y,x), eq. 7
        self.p_a = Encoder(trunk(), z_dim + classes, a_dim, dropout)  # p(a|z,y,x), eq. 3

    def classifier(self, trunk: Callable, a_dim: int, classes: int, dropout: float) -> nn.Module:
        """A net of q(y|a,x); trunk makes one."""
        return Classifier(trunk(), a_dim, classes, dropout)

    @property
    def noise(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the standard normal noise that `forward` takes for one image: of a, of z."""
        return (self.a_dim,), (self.z_dim,)

    def features(self, x: Tensor, nets: tuple[str, ...] = TRUNKS) -> dict[str, Tensor]:
        """x: N x 1 x H x W -> each net's own convolutional features of it, N x F."""
        return {name: getattr(self, name).trunk(x) for name in nets}

    def bound(
        self, x: Tensor, f: dict[str, Tensor], q_a: Gaussian, a: Tensor, y: Tensor, noise: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """L(x,y) of eq. 8, its KL_z and KL_a (R each), and the mean of q(z|a,y,x) (R x Z). Arguments: a row per pair.

        L = - w log p(x|z,y) - log p(y) + T (KL_z + KL_a) at one a ~ q(a|x) and one z ~ q(z|a,y,x), where w is the
        likelihood_weight and T the temperature. KL_z = KL(q(z|a,y,x) || N(0,I)) in closed form: the average of the
        sampled log q - log p, with less variance. KL_a = log q(a|x) - log p(a|z,y,x) at the sample. The closed form of
        KL(q(a|x) || p(a|z,y,x)) is another, larger quantity: it averages over values of a that this z was not drawn
        from. So KL_a is negative where z carries information on a; KL_z + KL_a is not, on average. Free bits count in
        L alone: the KL_z that is returned is the divergence itself.
        """
        if self.use_z:
            q_z = self.q_z(f["q_z"], a, y)
        else:
            q_z = Gaussian(torch.zeros_like(noise), torch.zeros_like(noise))
        z = q_z.sample(noise) if self.use_z else q_z.mu  # R x Z
        KL_z = q_z.kl_standard()
        KL_a = q_a.log_prob(a) - self.p_a(f["p_a"], z, y).log_prob(a)
        log_p_x = self.p_x(z, y).log_prob(x)
        log_p_y = -math.log(self.classes)  # eq. 2, uniform
        paid = q_z.kl_standard(self.free_bits) if self.free_bits and self.use_z else KL_z
        L = -self.likelihood_weight * log_p_x - log_p_y + temperature * (paid + KL_a)  # eq. 8
        return L, KL_z, KL_a, q_z.mu

    def forward(self, x: Tensor, y: Tensor, noise_a: Tensor, noise_z: Tensor, temperature: float = 1.0) -> Terms:
        """x: N x 1 x H x W, the N_l labelled first; y: N_l, int64; noise_a: N x A, noise_z: N x Z, standard normal."""
        n_l, n_u, K = len(y), len(x) - len(y), self.classes
        f = self.features(x)
        q_a = self.q_a(f["q_a"])
        a = q_a.sample(noise_a)  # N x A
        log_q_y = self.q_y(f["q_y"], a)  # N x K

        label = torch.cat([y, torch.arange(K, device=x.device).repeat(n_u)])
        one_hot = F.one_hot(label, K).to(a.dtype)  # R x K, R = N_l + N_u K
        pairs = {name: rows(f[name], n_l, K) for name in ("q_z", "p_a")}
        x, a, noise_z = (rows(v, n_l, K) for v in (x, a, noise_z))
        L, KL_z, KL_a, mu_z = self.bound(x, pairs, q_a.rows(n_l, K), a, one_hot, noise_z, temperature)

        L_u = L[n_l:].view(n_u, K)
        log_q = log_q_y[n_l:]
        U = (log_q.exp() * (L_u + log_q)).sum(1)  # eq. 9: sum_y q(y|a,x) L(x,y) - H(q(y|a,x))
        ce = F.nll_loss(log_q_y[:n_l], y, reduction="none")
        return Terms(L[:n_l], U, ce, KL_z[:n_l], KL_a[:n_l], mu_z[:n_l], q_a.mu[:n_l], log_q_y[:n_l])

    def sample_ce(self, noise_z: Tensor) -> Tensor:
        """Mean of -log q(y|a,x) over samples x: means of p(x|z,y) at z = noise_z, N x Z, standard normal, and each y in
        turn; a is the mean of q(a|x). It is in no equation of the paper. Without it p(x|z,y) leaves y to z, and the
        samples of the classes look alike.

        It bounds the information that x has on y (Chen et al. 2016, InfoGAN, eq. 5). Its gradient reaches p(x|z,y)
        alone. q(a|x) and q(y|a,x) are as in evaluation: no sample teaches the classifier.
        """
        y = torch.arange(len(noise_z), device=noise_z.device) % self.classes
        x = self.p_x(noise_z, F.one_hot(y, self.classes).to(noise_z.dtype)).mu
        with frozen(self.q_a, self.q_y):
            f = self.features(x, ("q_a", "q_y"))
            return F.nll_loss(self.q_y(f["q_y"], self.q_a(f["q_a"]).mu), y)

    def measure(self, x: Tensor, y: Tensor, noise_a: Tensor, noise_z: Tensor, temperature) -> dict[str, Tensor]:
        """The terms of each image by name: L and ce as of a labelled image, U as of an unlabelled one."""
        x, noise_a, noise_z = (torch.cat([v, v]) for v in (x, noise_a, noise_z))
        terms = self(x, y, noise_a, noise_z, temperature)
        return {name: getattr(terms, name) for name in ("L", "U", "ce", "KL_z", "KL_a", "mu_z", "mu_a")}

    def classify(self, x: Tensor, noise: Tensor) -> Tensor:
        """q(y|x), N x K: q(y|a,x) averaged over draws of a. x: N x 1 x H x W; noise: S x N x A, standard normal."""
        f = self.features(x, ("q_a", "q_y"))
        q_a = self.q_a(f["q_a"])
        return torch.stack([self.q_y(f["q_y"], q_a.sample(n)).exp() for n in noise]).mean(0)


class Discriminative(ADGM):
    """q(a|x) and q(y|a,x) of an ADGM of these sizes, with its initial weights; the other nets are dropped."""

    def __init__(self, *, size: int, classes: int, z_dim: int, a_dim: int, dropout: float) -> None:
        super().__init__(size=size, classes=classes, z_dim=z_dim, a_dim=a_dim, dropout=dropout)
        del self.p_x, self.q_z, self.p_a

    def forward(self, x: Tensor, noise_a: Tensor) -> Tensor:  # type: ignore[override]
        """x: N x 1 x H x W, noise_a: N x A -> log q(y|a,x), N x K."""
        f = self.features(x, ("q_a", "q_y"))
        return self.q_y(f["q_y"], self.q_a(f["q_a"]).sample(noise_a))

    def measure(self, x: Tensor, y: Tensor, noise_a: Tensor, noise_z: Tensor, temperature) -> dict[str, Tensor]:
        """The classification loss of each image, by name."""
        return {"ce": F.nll_loss(self(x, noise_a), y, reduction="none")}


def objective(terms: Terms, alpha: float, shares: tuple[float, float]) -> Tensor:
    """J of eq. 11 from a batch: the means over its labelled and over its unlabelled images, each times its share.

    shares: as `shares_of` gives them.
    """
    L_l = terms.L + alpha * terms.ce  # eq. 10 with the right sign: - alpha log q(y|a,x)
    return shares[0] * L_l.mean() + shares[1] * terms.U.mean()  # eq. 11


def shares_of(weighting: str, n_l: int, n_u: int) -> tuple[float, float]:
    """What the labelled and the unlabelled images' means count in J.

    sum: eq. 11 sums over all images, so each mean counts by its number of images; the sum is divided by all images,
    N_l + N_u. mean: as the paper's published code, where a mean over labelled images counts as much as one over
    unlabelled ones; each labelled image then weighs N_u / N_l too much (docs/papers.md, E71).
    """
    return (n_l / (n_l + n_u), n_u / (n_l + n_u)) if weighting == "sum" else (1.0, 1.0)


def active_units(mu: Tensor, threshold: float = 0.01) -> int:
    """How many units carry information: their posterior mean, N x Z, has a variance over the images above threshold.

    Burda et al. 2016, Importance weighted autoencoders, section 5.
    """
    return int((mu.double().var(0, correction=0) > threshold).sum())
