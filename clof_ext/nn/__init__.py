"""Layers, with the names that the published weights have."""

from .frame_attention import FrameAttention
from .frame_conv import FrameConv

__all__ = ["FrameAttention", "FrameConv"]
