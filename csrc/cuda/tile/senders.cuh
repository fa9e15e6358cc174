// What senders get of the rows that the backward pass leaves of edges, in the order of the plan.
#pragma once

#include "edges.cuh"
#include "receivers.cuh"

namespace clof::cuda {

struct SenderSums {
  Graph graph;
  int32_t* place_of;   // (E,) the place of each edge in the order by receiver
  int64_t begin, end;  // places whose rows are there
  const float* rows;   // (end - begin, Width + 4)
  float* grad_parts;   // (N, 2, Width), added to
  float* grad_pos;     // (N, 3), added to
};

CLOF_DEVICE void find_places(const SenderSums& a) {
  const int64_t step = int64_t(num_blocks()) * num_threads();
  for (int64_t p = int64_t(block_index()) * num_threads() + thread_index(); p < a.graph.num_edges; p += step) {
    a.place_of[a.graph.by_receiver[p]] = int32_t(p);
  }
}

// One warp for each node: each half of its lanes takes every second edge.
template <int Width> CLOF_DEVICE void sum_senders(const SenderSums& a) {
  const int64_t node = (int64_t(block_index()) * num_threads() + thread_index()) / kWarp;
  if (node >= a.graph.num_nodes) return;
  const int lane = thread_index() % kWarp, half = lane / 16, part = lane % 16;
  float4 sums[Width / 64], vector = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (float4& sum : sums) sum = {0.0f, 0.0f, 0.0f, 0.0f};
  const int32_t stop = a.graph.sender_start[node + 1];
#pragma unroll 4
  for (int32_t p = a.graph.sender_start[node] + half; p < stop; p += 2) {
    const int64_t place = a.place_of[a.graph.by_sender[p]];
    if (place < a.begin || place >= a.end) continue;
    const auto* row = reinterpret_cast<const float4*>(a.rows + (place - a.begin) * kPartial<Width>);
#pragma unroll
    for (int k = 0; k < Width / 64; ++k) {
      const float4 x = row[16 * k + part];
      sums[k] = {sums[k].x + x.x, sums[k].y + x.y, sums[k].z + x.z, sums[k].w + x.w};
    }
    if (part == 0) {
      const float4 x = row[Width / 4];
      vector = {vector.x + x.x, vector.y + x.y, vector.z + x.z, 0.0f};
    }
  }
  const auto whole = [](float4 x) {
    return float4{x.x + shuffle_xor(x.x, 16), x.y + shuffle_xor(x.y, 16), x.z + shuffle_xor(x.z, 16),
                  x.w + shuffle_xor(x.w, 16)};
  };
  vector = whole(vector);
#pragma unroll
  for (int k = 0; k < Width / 64; ++k) {
    const float4 sum = whole(sums[k]);
    auto* to = reinterpret_cast<float4*>(a.grad_parts + (2 * node + 1) * Width) + 16 * k + part;
    if (half == 0) *to = {to->x + sum.x, to->y + sum.y, to->z + sum.z, to->w + sum.w};
  }
  if (lane == 0) {
    float* to = a.grad_pos + 3 * node;
    to[0] += vector.x;
    to[1] += vector.y;
    to[2] += vector.z;
  }
}

}  // namespace clof::cuda
