"""Attention over the edges into each atom, and products of their ends, group by group with recomputation.

Neither keeps an array of edges x hidden: what a group of edges needs is made when it is needed, also in the backward
pass.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from .neighbourhoods import Group, Neighbourhoods


def edge_attention(
    query: Tensor, h: Tensor, edge: Tensor, in_weight: Tensor, out_weight: Tensor, near: Neighbourhoods, keep: Tensor
) -> tuple[Tensor, Tensor]:
    """Softmax-weighted means of [h_i, edge_ij] over the edges into each atom j, mapped head by head.

    For K heads of D = H / K features::

        weight_ij = softmax over edges into j of <query_j, in_weight @ [h_i, edge_ij]> / sqrt(D), times keep_ij
        out_j = sum_i weight_ij out_weight @ [h_i, edge_ij]

    Keys and values are linear in [h_i, edge_ij], so their matrices act on an atom's query and on its weighted mean,
    once per atom in place of once per edge.

    Args:
        query: (N, K, D).
        h: (N, H).
        edge: (E, H).
        in_weight, out_weight: (K, D, 2 H).
        near: the order of atoms and edges.
        keep: (E, K) factors of the weights, from dropout; or an empty tensor for none.

    Returns:
        out (N, K, D), 0 for atoms without edges, and the sums of the weights, (N, K).
    """
    return _EdgeAttention.apply(query, h, edge, in_weight, out_weight, near, keep)


class _EdgeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, h, edge, in_weight, out_weight, near, keep):
        ctx.save_for_backward(query, h, edge, in_weight, out_weight, keep)
        ctx.near = near
        out, total = torch.zeros_like(query), query.new_zeros(query.shape[:2])
        for group in near.groups:
            ends = _ends(h, edge, near, group)
            _, weight, kept = _weights(query, ends, in_weight, keep, group)
            mean = kept.transpose(1, 2) @ ends
            out[group.nodes] = (mean.transpose(0, 1) @ out_weight.transpose(1, 2)).transpose(0, 1)
            total[group.nodes] = kept.sum(1)
        return out, total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out, grad_total):
        query, h, edge, in_weight, out_weight, keep = ctx.saved_tensors
        near, hidden = ctx.near, h.shape[1]
        grad_query, grad_h, grad_edge = torch.zeros_like(query), torch.zeros_like(h), torch.empty_like(edge)
        grad_in, grad_out_weight = torch.zeros_like(in_weight), torch.zeros_like(out_weight)
        scale = 1 / math.sqrt(query.shape[2])
        for group in near.groups:
            ends = _ends(h, edge, near, group)
            probe, weight, kept = _weights(query, ends, in_weight, keep, group)
            grad = grad_out[group.nodes].transpose(0, 1)
            mean = kept.transpose(1, 2) @ ends
            grad_out_weight.baddbmm_(grad.transpose(1, 2), mean.transpose(0, 1))
            grad_mean = (grad @ out_weight).transpose(0, 1)
            grad_kept = torch.baddbmm(grad_total[group.nodes][:, None], ends, grad_mean.transpose(1, 2))
            grad_weight = grad_kept * keep[group.edges].view_as(kept) if len(keep) else grad_kept
            grad_score = weight * (grad_weight - (weight * grad_weight).sum(1, keepdim=True))
            grad_ends = torch.bmm(kept, grad_mean).baddbmm_(grad_score, probe).flatten(0, 1)
            grad_edge[group.edges] = grad_ends[:, hidden:]
            grad_h.index_add_(0, near.source[group.edges], grad_ends[:, :hidden])
            grad_probe = (grad_score.transpose(1, 2) @ ends).transpose(0, 1)
            grad_query[group.nodes] = (grad_probe @ in_weight.transpose(1, 2)).transpose(0, 1) * scale
            grad_in.baddbmm_(query[group.nodes].permute(1, 2, 0), grad_probe, alpha=scale)
        return grad_query, grad_h, grad_edge, grad_in, grad_out_weight, None, None


def _ends(h: Tensor, edge: Tensor, near: Neighbourhoods, group: Group) -> Tensor:
    """[h_i, edge_ij] of a group, (n, degree, 2 H)."""
    ends = torch.cat((h[near.source[group.edges]], edge[group.edges]), 1)
    return ends.view(-1, group.degree, ends.shape[1])


def _weights(query: Tensor, ends: Tensor, in_weight: Tensor, keep: Tensor, group: Group) -> tuple[Tensor, ...]:
    """What each head looks for, (n, K, 2 H), and the softmax weights without and with dropout, (n, degree, K)."""
    probe = (query[group.nodes].transpose(0, 1) @ in_weight).transpose(0, 1) / math.sqrt(query.shape[2])
    weight = (ends @ probe.transpose(1, 2)).softmax(1)
    return probe, weight, weight * keep[group.edges].view_as(weight) if len(keep) else weight


def edge_product(h: Tensor, edge: Tensor, weight: Tensor, bias: Tensor, near: Neighbourhoods) -> Tensor:
    """softplus(weight @ [h_i * h_j, edge_ij] + bias) of every edge: (E, W).

    Args:
        h: (N, H).
        edge: (E, H).
        weight: (W, 2 H).
        bias: (W,).
        near: the order of atoms and edges.
    """
    return _EdgeProduct.apply(h, edge, weight, bias, near)


class _EdgeProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, edge, weight, bias, near):
        before = edge.new_empty(len(edge), len(weight))
        for group in near.groups:
            torch.addmm(bias, _products(h, edge, near, group), weight.T, out=before[group.edges])
        ctx.save_for_backward(h, edge, weight, before)
        ctx.near = near
        return softplus(before)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        h, edge, weight, before = ctx.saved_tensors
        near, hidden = ctx.near, h.shape[1]
        grad_h, grad_edge = torch.zeros_like(h), torch.empty_like(edge)
        grad_weight, grad_bias = torch.zeros_like(weight), weight.new_zeros(len(weight))
        for group in near.groups:
            grad_before = grad[group.edges] * before[group.edges].sigmoid()
            grad_weight.addmm_(grad_before.T, _products(h, edge, near, group))
            grad_bias += grad_before.sum(0)
            both = grad_before @ weight
            grad_edge[group.edges] = both[:, hidden:]
            source, target = near.source[group.edges], near.target[group.edges]
            grad_h.index_add_(0, source, both[:, :hidden] * h[target])
            grad_h.index_add_(0, target, both[:, :hidden] * h[source])
        return grad_h, grad_edge, grad_weight, grad_bias, None


def _products(h: Tensor, edge: Tensor, near: Neighbourhoods, group: Group) -> Tensor:
    """[h_i * h_j, edge_ij] of a group, (n degree, 2 H)."""
    return torch.cat((h[near.source[group.edges]] * h[near.target[group.edges]], edge[group.edges]), 1)
