// The forward pass of the fused edge block, one chunk of receivers at a time.
#pragma once

#include "edge_block.h"

namespace clof {
inline namespace CLOF_ISA {

template <class T> struct ForwardBlock : EdgeBlock<T> {
  using Base = EdgeBlock<T>;
  using Base::a, Base::products, Base::shared, Base::tables, Base::tile, Base::width;

  using Base::Base;

  // What the first Linear makes of the features of the chunk's nodes: the share of a receiver and of a sender.
  void nodes() { nodes(a.h, shared.weights.node_bias, tables.shares); }

  // Of a direction of the features.
  void node_tangents() {
    fill(tile.zeros, width.longest(), T(0));
    nodes(a.tangents.h, tile.zeros, tables.share_tangents);
  }

  void nodes(const void* features, const T* bias, const NodeRows<T>& to) {
    const int64_t last = this->last_node();
    for (int64_t node = this->first_node(); node < last; node += kTile) {
      const int64_t count = last - node < kTile ? last - node : kTile;
      const int64_t whole = count / products.block_rows() * products.block_rows();
      for (int64_t k = 0; k < count; ++k)
        read_row(features, a.storage, node + k, a.node_features, tile.input + k * width.features);
      product(tile.input, width.features, shared.weights.node, bias, 0, to.of(node), width.both, whole);
      // The last, partial block must not write behind its rows.
      if (whole < count) {
        partial_nodes(tile.input + whole * width.features, bias, to.of(node + whole), count - whole);
      }
    }
  }

  void partial_nodes(const T* features, const T* bias, T* to, int64_t count) {
    // A whole block of rows with both shares needs the room of two blocks of one.
    T* result = tile.values[0];
    product(features, width.features, shared.weights.node, bias, 0, result, width.both, products.block_rows());
    std::memcpy(to, result, count * width.both * sizeof(T));
  }

  // Messages and vectors of the chunk's receivers.
  void receivers() {
    const int64_t first = this->first_node(), last = this->last_node();
    const int32_t* start = a.graph.receiver_start;
    int64_t node = first;
    clear();
    for (int64_t edge = start[first]; edge < start[last]; edge += kTile) {
      const int64_t left = start[last] - edge;
      this->run(edge, left < kTile ? left : kTile);
      for (int k = 0; k < tile.count; ++k) {
        for (; node < tile.receiver[k]; ++node) finish(node);
        add_edge(k);
      }
    }
    for (; node < last; ++node) finish(node);
  }

  void add_edge(int k) {
    add_scaled(tile.sum, tile.weight[k] * tile.message_scale[k], tile.gated + k * width.hidden, width.hidden);
    const T scale = tile.weight[k] * tile.vector_scale[k];
    for (int c = 0; c < 3; ++c) vector_sum[c] += scale * this->clamped(tile.vector[c * kTile + k]);
  }

  void finish(int64_t node) {
    write_row(tile.sum, a.hidden, a.message, a.storage, node);
    for (int c = 0; c < 3; ++c) static_cast<T*>(a.vector)[3 * node + c] = vector_sum[c];
    clear();
  }

  void clear() {
    fill(tile.sum, width.hidden, T(0));
    for (T& sum : vector_sum) sum = 0;
  }

  T vector_sum[3];
};

}  // namespace CLOF_ISA
}  // namespace clof
