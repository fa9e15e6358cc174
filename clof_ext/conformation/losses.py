"""The loss of denoising score matching."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .molecule import MoleculeBatch


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Conformers with noise.

    Attributes:
        molecules: the batch without noise.
        pos: (N, 3) perturbed positions in angstrom.
        sigma: (N, 1) standard deviation of each atom's noise, one number per conformer, in angstrom.
        noise: (N, 3) the standard normal numbers: pos = molecules.pos + sigma * noise.
    """

    molecules: MoleculeBatch
    pos: Tensor
    sigma: Tensor
    noise: Tensor


def perturb(molecules: MoleculeBatch, sigma: Tensor, generator: torch.Generator | None = None) -> Perturbed:
    """Add normal noise of standard deviation sigma, (G,), to each conformer; from torch's own generator if None."""
    noise = torch.randn(molecules.pos.shape, generator=generator).to(molecules.pos)
    per_atom = sigma[molecules.batch, None]
    return Perturbed(molecules, molecules.pos + per_atom * noise, per_atom, noise)


def score_matching_loss(score: Tensor, perturbed: Perturbed) -> Tensor:
    """Loss of each conformer, (G,): the mean over its atoms of 1/2 sigma^2 |score - target|^2.

    The target is the score of the noise's distribution, -(perturbed - clean) / sigma^2 = -noise / sigma, so that all
    levels of noise weigh alike.

    Args:
        score: (N, 3), in 1 / angstrom.
        perturbed: what the score is of.

    Source: Song and Ermon, NeurIPS 2019; Shi et al., ICML 2021.
    """
    per_atom = 0.5 * (perturbed.sigma * score + perturbed.noise).square().sum(1)
    sizes = perturbed.molecules.ptr.diff()
    return per_atom.new_zeros(len(sizes)).index_add(0, perturbed.molecules.batch, per_atom) / sizes
