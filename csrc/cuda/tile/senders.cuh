// What senders get of the rows that the backward pass leaves of edges, in the order of the plan.
#pragma once

#include <cstdint>

#include "edges.cuh"
#include "receivers.cuh"

namespace clof::cuda {

struct SenderSums {
  Graph graph;
  int32_t* place_of;  // (E,) the place of each edge in the order by receiver
  int32_t* range;     // (N, 2) the first of the places of each node's edges and the one behind the last
  int begin, end;     // places whose rows are there
  const float* rows;  // (end - begin, Width + 4)
  float* grad_parts;  // (N, 2, Width), added to
  float* grad_pos;    // (N, 3), added to
};

CLOF_DEVICE void find_places(const SenderSums& a, int64_t first, int64_t step) {
  for (int64_t p = first; p < a.graph.num_edges; p += step) a.place_of[a.graph.by_receiver[p]] = int32_t(p);
}

// A lane's part of a row, or of a sum of rows: half of the lanes take a row.
template <int Width> struct SenderRow {
  float4 features[Width / 64], vector;

  CLOF_DEVICE void clear() {
#pragma unroll
    for (float4& x : features) x = {0.0f, 0.0f, 0.0f, 0.0f};
    vector = {0.0f, 0.0f, 0.0f, 0.0f};
  }
  CLOF_DEVICE static float4 sum(float4 x, float4 y) { return {x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w}; }
  CLOF_DEVICE void load(const float* from, int part) {
    const auto* row = reinterpret_cast<const float4*>(from);
#pragma unroll
    for (int k = 0; k < Width / 64; ++k) features[k] = row[16 * k + part];
    if (part == 0) vector = row[Width / 4];
  }
  CLOF_DEVICE void add(const SenderRow& row) {
#pragma unroll
    for (int k = 0; k < Width / 64; ++k) features[k] = sum(features[k], row.features[k]);
    vector = sum(vector, row.vector);
  }
  CLOF_DEVICE static float4 of_both_halves(float4 x) {
    return sum(x, {shuffle_xor(x.x, 16), shuffle_xor(x.y, 16), shuffle_xor(x.z, 16), shuffle_xor(x.w, 16)});
  }
};

// Rows that half of a warp waits for at a time.
constexpr int kSenderRows = 4;

// Adds the rows of a node's edges whose places are in [begin, end); returns the range of all of their places, which is
// nowhere if there are none.
template <int Width> CLOF_DEVICE void add_senders(const SenderSums& a, int32_t start, int32_t stop, int lane,
                                                  SenderRow<Width>& sums, int (&range)[2]) {
  const int half = lane / 16, part = lane % 16;
  for (int32_t first = start; first < stop; first += kWarp) {
    const int32_t count = stop - first < kWarp ? stop - first : kWarp;
    const int own = lane < count ? a.place_of[a.graph.by_sender[first + lane]] : -1;
    if (own >= 0) {
      range[0] = own < range[0] ? own : range[0];
      range[1] = own >= range[1] ? own + 1 : range[1];
    }
    for (int k = 0; k < count; k += 2 * kSenderRows) {
      SenderRow<Width> rows[kSenderRows];
#pragma unroll
      for (int j = 0; j < kSenderRows; ++j) {
        // Behind the last edge is no place.
        const int place = shuffle(own, k + 2 * j + half);
        rows[j].clear();
        if (place >= a.begin && place < a.end) rows[j].load(a.rows + int64_t(place - a.begin) * kPartial<Width>, part);
      }
#pragma unroll
      for (const SenderRow<Width>& row : rows) sums.add(row);
    }
  }
}

// One warp for a node: lanes find the places of 32 edges at a time, then each half of them takes every second row.
// The first chunk of edges finds the ranges; to a later one most nodes of a batch of small systems have sent nothing.
template <int Width> CLOF_DEVICE void sum_sender(const SenderSums& a, int64_t node) {
  const int lane = thread_index() % kWarp, half = lane / 16, part = lane % 16;
  int32_t* const kept = a.range + 2 * node;
  if (a.begin > 0 && (kept[0] >= a.end || kept[1] <= a.begin)) return;
  SenderRow<Width> sums;
  sums.clear();
  int range[2] = {INT32_MAX, 0};
  add_senders(a, a.graph.sender_start[node], a.graph.sender_start[node + 1], lane, sums, range);
  if (a.begin == 0) {
    for (int mask = 1; mask < kWarp; mask *= 2) {
      const int low = shuffle_xor(range[0], mask), high = shuffle_xor(range[1], mask);
      range[0] = low < range[0] ? low : range[0];
      range[1] = high > range[1] ? high : range[1];
    }
    if (lane == 0) {
      kept[0] = range[0];
      kept[1] = range[1];
    }
    if (range[0] >= a.end) return;
  }
  sums.vector = SenderRow<Width>::of_both_halves(sums.vector);
#pragma unroll
  for (int k = 0; k < Width / 64; ++k) {
    const float4 sum = SenderRow<Width>::of_both_halves(sums.features[k]);
    auto* to = reinterpret_cast<float4*>(a.grad_parts + (2 * node + 1) * Width) + 16 * k + part;
    if (half == 0) *to = SenderRow<Width>::sum(*to, sum);
  }
  if (lane == 0) add_later(a.grad_pos + 3 * node, Vec3<float>{sums.vector.x, sums.vector.y, sums.vector.z});
}

}  // namespace clof::cuda
