// What the first Linear of edge_mlp makes of the features of nodes, once for each node instead of once for each edge.
#pragma once

#include "product.cuh"

namespace clof::cuda {

struct NodeLinear {
  const void* h;  // (N, F)
  int64_t nodes;
  int features;
  const void* weight;  // (H, ...), the columns of a receiver's features, then those of a sender's
  int64_t leading;
  const void* bias;  // (H,), counted with the receiver
  int hidden;
  void* parts;  // (N, 2, Width)
};

constexpr int kNodeWarps = 8;
// Features that are multiplied at a time, whose weights lie in shared memory.
constexpr int kNodeColumns = 64;

// A block takes kNodeWarps * kRows nodes as receivers, or the same nodes as senders.
template <class Kind, int Width> CLOF_DEVICE void node_linear(const NodeLinear& a) {
  using Stored = typename Kind::Stored;
  const Lane lane;
  const int role = block_index() % 2;
  const int64_t first = (int64_t(block_index() / 2) * kNodeWarps + thread_index() / kWarp) * kRows;
  auto* weights = reinterpret_cast<Stored*>(shared_memory());
  RowsInMemory rows = {a.h, {}, a.features};
  int64_t node[2];
  for (int h = 0; h < 2; ++h) {
    node[h] = first + lane.g + 8 * h;
    rows.first[h] = (node[h] < a.nodes ? node[h] : a.nodes - 1) * a.features;
  }
  Rows<Width> z;
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int column = feature<Kind>(n, lane.t, k % 2);
      z.at[n][k] = role == 0 && column < a.hidden ? load_number<Kind>(a.bias, column) : 0.0f;
    }
  }
  for (int column = 0; column < a.features; column += kNodeColumns) {
    block_barrier();
    for (int k = thread_index(); k < Width * kNodeColumns; k += num_threads()) {
      const int row = k / kNodeColumns, input = k % kNodeColumns;
      float x = 0.0f;
      if (row < a.hidden && column + input < a.features) {
        x = load_number<Kind>(a.weight, row * a.leading + int64_t(role) * a.features + column + input);
      }
      if constexpr (!Kind::kHalf) x = Kind::prepared(x);
      store_number<Kind>(weights, row * kNodeColumns + weight_column<Kind>(row, input, kNodeColumns), x);
    }
    block_barrier();
    add_product<Kind>(z, rows, column, weights, kNodeColumns, lane);
  }
  for (int h = 0; h < 2; ++h) {
    if (node[h] >= a.nodes) continue;
    auto* row = static_cast<Stored*>(a.parts) + (2 * node[h] + role) * Width;
    for_groups<Kind, Width>(lane, [&](int n, int column) {
      float values[Kind::kGroup];
#pragma unroll
      for (int k = 0; k < Kind::kGroup; ++k) values[k] = z.at[n + k / 2][2 * h + k % 2];
      *reinterpret_cast<uint4*>(row + column) = pack_group<Kind>(values);
    });
  }
}

}  // namespace clof::cuda
