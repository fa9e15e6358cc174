// What the first Linear of edge_mlp makes of the features of nodes, once for each node instead of once for each edge.
#pragma once

#include "product.cuh"

namespace clof::cuda {

// Memory that becomes 0 on the way: so many bytes for each node.
struct Cleared {
  void* base;
  int64_t bytes;
};

struct NodeLinear {
  const void* h;  // (N, F)
  int64_t nodes;
  int features;
  const void* weight;  // (H, ...), the columns of a receiver's features, then those of a sender's
  int64_t leading;
  const void* bias;  // (H,), counted with the receiver
  int hidden;
  void *receivers, *senders;  // (N, Width), what it makes of nodes in either role
  // Of all edges sorted by receiver, where `receivers` becomes messages, else null: rows without edges become 0.
  const int32_t* receiver_start;
  Cleared cleared[2];
};

constexpr int kNodeWarps = 8;
// Features that are multiplied at a time, whose weights lie in shared memory.
constexpr int kNodeColumns = 64;

// Nodes of a block of threads.
constexpr int64_t kBlockNodes = kNodeWarps * kRows;

inline int64_t num_node_blocks(int64_t nodes) { return 2 * ((nodes + kBlockNodes - 1) / kBlockNodes); }

// The part of the memory that belongs to the nodes [first, last); where it begins is a multiple of 4 bytes.
CLOF_DEVICE void clear(const Cleared& a, int64_t first, int64_t last) {
  auto* words = reinterpret_cast<uint32_t*>(static_cast<char*>(a.base) + first * a.bytes);
  const int64_t bytes = (last - first) * a.bytes;
  for (int64_t k = thread_index(); k < bytes / 4; k += num_threads()) words[k] = 0;
  // Numbers of 16 bits may be odd in number.
  if (thread_index() == 0 && bytes % 4) *reinterpret_cast<uint16_t*>(words + bytes / 4) = 0;
}

// A block takes kBlockNodes nodes as receivers, or the same nodes as senders.
template <class Kind, int Width> CLOF_DEVICE void node_linear(const NodeLinear& a, int block) {
  using Stored = typename Kind::Stored;
  const Lane lane;
  const int role = block % 2;
  const int64_t first_of_block = block / 2 * kBlockNodes, last = first_of_block + kBlockNodes;
  const int64_t first = first_of_block + thread_index() / kWarp * kRows;
  clear(a.cleared[role], first_of_block, last < a.nodes ? last : a.nodes);
  auto* weights = reinterpret_cast<Stored*>(shared_memory());
  RowsInMemory rows[1] = {{a.h, {}, a.features}};
  int64_t node[2];
  for (int h = 0; h < 2; ++h) {
    node[h] = first + lane.g + 8 * h;
    rows[0].first[h] = (node[h] < a.nodes ? node[h] : a.nodes - 1) * a.features;
  }
  Rows<Width> z[1];
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int column = feature<Kind>(n, lane.t, k % 2);
      z[0].at[n][k] = role == 0 && column < a.hidden ? load_number<Kind>(a.bias, column) : 0.0f;
    }
  }
  for (int column = 0; column < a.features; column += kNodeColumns) {
    block_barrier();
#pragma unroll 8
    for (int k = thread_index(); k < Width * kNodeColumns; k += num_threads()) {
      const int row = k / kNodeColumns, input = k % kNodeColumns;
      float x = 0.0f;
      if (row < a.hidden && column + input < a.features) {
        x = load_number<Kind>(a.weight, row * a.leading + int64_t(role) * a.features + column + input);
      }
      if constexpr (!Kind::kHalf) x = Kind::prepared(x);
      store_number<Kind>(weights, row * kNodeColumns + weight_column<Kind>(row, input), x);
    }
    block_barrier();
    add_product<Kind, kNodeColumns>(z, rows, column, weights, lane);
  }
  auto* to = static_cast<Stored*>(role == 0 ? a.receivers : a.senders);
  for (int h = 0; h < 2; ++h) {
    if (node[h] >= a.nodes) continue;
    const int32_t* start = a.receiver_start == nullptr || role == 1 ? nullptr : a.receiver_start + node[h];
    const bool unread = start != nullptr && start[0] == start[1];
    auto* row = to + node[h] * Width;
    for_groups<Kind, Width>(lane, [&](int n, int column) {
      float values[Kind::kGroup];
#pragma unroll
      for (int k = 0; k < Kind::kGroup; ++k) values[k] = unread ? 0.0f : z[0].at[n + k / 2][2 * h + k % 2];
      *reinterpret_cast<uint4*>(row + column) = pack_group<Kind>(values);
    });
  }
}

}  // namespace clof::cuda
