"""The variational autoencoder of one class: half of analysis by synthesis."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from arena.kernels.layers import LATENT, LAYERS

# Paper, appendix A.5 "Hyperparameters and training details for the ABS model"; the decoder's are in arena.kernels.
KERNELS = (5, 4, 3, 5)
STRIDES = (1, 2, 2, 1)
MAPS = (32, 32, 64, 2 * LATENT)


class VAE(nn.Module):
    """Images to latent points and back, the parameters named as in the released checkpoints.

    The posterior is a normal distribution; its mean is linear in the encoder's last layer.
    """

    def __init__(self) -> None:
        super().__init__()
        encoder = list(zip((1, *MAPS), MAPS, KERNELS, STRIDES, strict=False))
        self.Encoder = _stack(nn.Conv2d, encoder)
        self.Decoder = _stack(nn.ConvTranspose2d, LAYERS)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, [B, 8] each, of the posterior of the images x, [B, 1, 28, 28]."""
        mean, log_variance = self.Encoder(x).flatten(1).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Images [B, 1, 28, 28] in [0, 1] of the latent points z, [B, 8]."""
        return self.Decoder(z[:, :, None, None]).sigmoid()

    def free_energy(self, x: Tensor, variance: float, beta: float, noise: Tensor) -> Tensor:
        """The negative ELBO (equation 2) up to a constant, [B], its KL divergence weighted by `beta`.

        variance: sigma^2 of the likelihood, a normal distribution. noise: standard normal, [B, 8], for z.
        """
        mean, log_variance = (part.float() for part in self.encode(x))
        z = mean + noise * (0.5 * log_variance).exp()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        distance = (x - self.decode(z).float()).square().flatten(1).sum(1)
        return distance / (2 * variance) + beta * divergence


def _stack(convolution: Callable[..., nn.Module], layers: Sequence[Sequence[int]]) -> nn.Sequential:
    """Convolutions (channels in, channels out, kernel, stride); batch norm and ELU after all but the last."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i, layer in enumerate(layers):
        modules[f"conv_{i}"] = convolution(*layer)
        if i < len(layers) - 1:
            # A batch has some 30 images of a class; the statistics used in evaluation average over more.
            modules[f"bn_{i}"] = nn.BatchNorm2d(layer[1], momentum=0.01)
            modules[f"elu_{i}"] = nn.ELU()
    return nn.Sequential(modules)
