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
    query: Tensor,
    h: Tensor,
    edge: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    near: Neighbourhoods,
    keep: Tensor | None,
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
        edge: (E, H), here and below with rows for ghosts.
        in_weight, out_weight: (K, D, 2 H).
        near: the order of atoms and edges.
        keep: (E, K) factors of the weights, from dropout; None for none.

    Returns:
        out (N, K, D), 0 for atoms without edges, and the sums of the weights, (N, K).
    """
    return _EdgeAttention.apply(query, h, edge, in_weight, out_weight, near, keep)


class _EdgeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, h, edge, in_weight, out_weight, near, keep):
        out, total = torch.zeros_like(query), query.new_zeros(query.shape[:2])
        weight = edge.new_empty(len(edge), query.shape[1])
        hidden = h.shape[1]
        of_source, of_edge = out_weight.mT.split(hidden, 1)
        unseen = edge.new_zeros(len(edge), 1).masked_fill_(near.ghost[:, None], -math.inf)
        for group in near.groups:
            source, along = _ends(h, edge, near, group)
            probe = _probe(query, in_weight, group)
            score = torch.baddbmm(_matrix(unseen, group), source, probe[..., :hidden].mT)
            score.baddbmm_(along, probe[..., hidden:].mT)
            _matrix(weight, group).copy_(score.softmax(1))
            kept = _kept(weight, keep, group).mT
            means = (kept @ source).transpose(0, 1), (kept @ along).transpose(0, 1)
            mapped = torch.baddbmm(means[0] @ of_source, means[1], of_edge)
            out[group.nodes] = mapped.transpose(0, 1)
            total[group.nodes] = kept.sum(2)
        ctx.save_for_backward(query, h, edge, in_weight, out_weight, keep, weight)
        ctx.near = near
        return out, total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out, grad_total):
        query, h, edge, in_weight, out_weight, keep, weights = ctx.saved_tensors
        near, hidden = ctx.near, h.shape[1]
        grad_query, grad_h, grad_edge = torch.zeros_like(query), torch.zeros_like(h), torch.empty_like(edge)
        grad_in, grad_out_weight = torch.zeros_like(in_weight), torch.zeros_like(out_weight)
        scale = 1 / math.sqrt(query.shape[2])
        for group in near.groups:
            source, along = _ends(h, edge, near, group)
            weight, kept = _matrix(weights, group), _kept(weights, keep, group)
            grad = grad_out[group.nodes].transpose(0, 1)
            grad_out_weight[..., :hidden].baddbmm_(grad.mT, (kept.mT @ source).transpose(0, 1))
            grad_out_weight[..., hidden:].baddbmm_(grad.mT, (kept.mT @ along).transpose(0, 1))
            grad_mean = (grad @ out_weight).transpose(0, 1)
            grad_kept = torch.baddbmm(grad_total[group.nodes][:, None], source, grad_mean[..., :hidden].mT)
            grad_kept.baddbmm_(along, grad_mean[..., hidden:].mT)
            grad_weight = grad_kept * _matrix(keep, group) if keep is not None else grad_kept
            grad_score = weight * (grad_weight - (weight * grad_weight).sum(1, keepdim=True))
            probe = _probe(query, in_weight, group)
            torch.bmm(kept, grad_mean[..., hidden:], out=_matrix(grad_edge, group))
            _matrix(grad_edge, group).baddbmm_(grad_score, probe[..., hidden:])
            grad_source = torch.bmm(kept, grad_mean[..., :hidden]).baddbmm_(grad_score, probe[..., :hidden])
            grad_h.index_add_(0, near.source[group.edges], grad_source.flatten(0, 1))
            asked = query[group.nodes].permute(1, 2, 0)
            grad_asked = 0
            for part, end in ((slice(hidden), source), (slice(hidden, None), along)):
                grad_probe = (grad_score.mT @ end).transpose(0, 1)
                grad_in[..., part].baddbmm_(asked, grad_probe, alpha=scale)
                grad_asked = grad_asked + grad_probe @ in_weight[..., part].mT
            grad_query[group.nodes] = grad_asked.transpose(0, 1) * scale
        return grad_query, grad_h, grad_edge, grad_in, grad_out_weight, None, None


def _matrix(values: Tensor, group: Group) -> Tensor:
    """The rows of a group's edges, (n, degree, ...), without a copy."""
    return values[group.edges].unflatten(0, (-1, group.degree))


def _ends(h: Tensor, edge: Tensor, near: Neighbourhoods, group: Group) -> tuple[Tensor, Tensor]:
    """h_i and edge_ij of a group, each (n, degree, H)."""
    # Several times as fast as indexing.
    source = h.index_select(0, near.source[group.edges])
    return source.unflatten(0, (-1, group.degree)), _matrix(edge, group)


def _probe(query: Tensor, in_weight: Tensor, group: Group) -> Tensor:
    """What each head looks for in [h_i, edge_ij]: (n, K, 2 H)."""
    scaled = query[group.nodes].transpose(0, 1) / math.sqrt(query.shape[2])
    return (scaled @ in_weight).transpose(0, 1)


def _kept(weight: Tensor, keep: Tensor | None, group: Group) -> Tensor:
    """A group's softmax weights after dropout, (n, degree, K)."""
    return _matrix(weight, group) * _matrix(keep, group) if keep is not None else _matrix(weight, group)


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
        before = torch.addmm(bias, edge, weight[:, h.shape[1] :].T)
        of_product = weight[:, : h.shape[1]].T
        for group in near.groups:
            source, target = _source_and_target(h, near, group)
            before[group.edges].addmm_((source * target).flatten(0, 1), of_product)
        ctx.save_for_backward(h, edge, weight, before)
        ctx.near = near
        return softplus(before)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        h, edge, weight, before = ctx.saved_tensors
        near, hidden = ctx.near, h.shape[1]
        grad_before = torch.ops.aten.softplus_backward(grad, before, 1, 20)
        grad_edge = grad_before @ weight[:, hidden:]
        grad_h, grad_weight = torch.zeros_like(h), torch.zeros_like(weight)
        torch.mm(grad_before.T, edge, out=grad_weight[:, hidden:])
        for group in near.groups:
            source, target = _source_and_target(h, near, group)
            grad_weight[:, :hidden].addmm_(grad_before[group.edges].T, (source * target).flatten(0, 1))
            grad_product = (grad_before[group.edges] @ weight[:, :hidden]).view_as(source)
            grad_h[group.nodes] += (grad_product * source).sum(1)
            grad_h.index_add_(0, near.source[group.edges], (grad_product * target).flatten(0, 1))
        return grad_h, grad_edge, grad_weight, grad_before.sum(0), None


def _source_and_target(h: Tensor, near: Neighbourhoods, group: Group) -> tuple[Tensor, Tensor]:
    """h_i, (n, degree, H), and h_j, (n, 1, H), of a group."""
    source = h.index_select(0, near.source[group.edges])
    return source.unflatten(0, (-1, group.degree)), h[group.nodes, None]
