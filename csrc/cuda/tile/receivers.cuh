// Sums of a warp's edges into their receivers, which lie side by side: no atomics, always in the same order.
//
// A warp holds the sum of one receiver in registers and writes it when the next one begins. Where a receiver has edges
// beyond the warp's range, the sum goes to one of the warp's two rows of `partial`: the first for a receiver that began
// before the range, the second for one that goes on behind it. `join` adds those of all warps.
#pragma once

#include "edges.cuh"

namespace clof::cuda {

// Numbers of a row of `partial`: features, and a vector.
template <int Width> constexpr int kPartial = Width + 4;

template <int Width> CLOF_DEVICE float* partial_row(const EdgeBlock& a, int warp, int which) {
  return a.partial + (2 * int64_t(warp) + which) * kPartial<Width>;
}

// Exchanges with the lane that differs in `mask`: keeps the half of the sums that the bit of this lane selects.
template <int Count>
CLOF_DEVICE void halve(float (&sums)[Count], float (&kept)[Count / 2], int mask, const Lane& lane) {
  const bool upper = lane.number & mask;
#pragma unroll
  for (int k = 0; k < Count / 2; ++k) {
    const float keep = upper ? sums[k + Count / 2] : sums[k], give = upper ? sums[k] : sums[k + Count / 2];
    kept[k] = keep + shuffle_xor(give, mask);
  }
}

// A Write has features(receiver, degree, first, x, y), for the sums of two features from `first` on, and
// vector(receiver, degree, v).
template <class Kind, int Width> class ReceiverSums {
 public:
  CLOF_DEVICE ReceiverSums(const EdgeBlock& block, const Range& own_range, int own_warp, const Lane& own_lane)
      : a(block), range(own_range), warp(own_warp), lane(own_lane) {
    clear();
  }

  // `own_vector` is that of the own row.
  template <int Tiles, class Write> CLOF_DEVICE void add(const TileEdges<Tiles>& edges,
                                                         const Rows<Width> (&rows)[Tiles], Vec3<float> own_vector,
                                                         const Write& write) {
    for (int first = 0; first < edges.count;) {
      const int owner = 4 * (first % 8) + first / 8;
      const int receiver = shuffle(edges.own.receiver, owner);
      if (receiver != open_) {
        close(write);
        open_ = receiver;
        start_ = shuffle(edges.own_start, owner);
        stop_ = shuffle(edges.own_stop, owner);
      }
      const bool own = edges.own_exists && edges.own.receiver == open_ && TileEdges<Tiles>::counts(lane);
      const int found = popcount(ballot(own));
#pragma unroll
      for (int h = 0; h < 2 * Tiles; ++h) {
        const int row = lane.g + 8 * h;
        if (row < first || row >= first + found) continue;
#pragma unroll
        for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
          for (int k = 0; k < 2; ++k) sums_[2 * n + k] += rows[h / 2].at[n][2 * (h % 2) + k];
        }
      }
      vector_.x += own ? own_vector.x : 0.0f;
      vector_.y += own ? own_vector.y : 0.0f;
      vector_.z += own ? own_vector.z : 0.0f;
      first += found;
    }
  }

  template <class Write> CLOF_DEVICE void close(const Write& write) {
    if (open_ < 0) return;
    // Of a chunk's edges: what lies outside of it is added by another launch.
    const bool begins = start_ >= range.begin || range.begin == a.begin,
               ends = stop_ <= range.end || range.end == a.end;
    float halved[Width / 8], quartered[Width / 16], own[Width / 32];
    halve(sums_, halved, 16, lane);
    halve(halved, quartered, 8, lane);
    halve(quartered, own, 4, lane);
    Vec3<float> vector = vector_;
    for (int mask = 1; mask < kWarp; mask *= 2) {
      vector = {vector.x + shuffle_xor(vector.x, mask), vector.y + shuffle_xor(vector.y, mask),
                vector.z + shuffle_xor(vector.z, mask)};
    }
    // Blocks n of the lane, counted by the bits of g: (Width / 64) of them, from (Width / 64) g on.
    constexpr int kOwnBlocks = Width / 64;
#pragma unroll
    for (int k = 0; k < kOwnBlocks; ++k) {
      const int first = feature<Kind>(kOwnBlocks * lane.g + k, lane.t, 0);
      if (begins && ends) {
        write.features(open_, stop_ - start_, first, own[2 * k], own[2 * k + 1]);
      } else {
        float* row = partial_row<Width>(a, warp, begins);
        row[first] = own[2 * k];
        row[first + 1] = own[2 * k + 1];
      }
    }
    if (lane.number == 0) {
      if (begins && ends) {
        write.vector(open_, stop_ - start_, vector);
      } else {
        float* row = partial_row<Width>(a, warp, begins) + Width;
        row[0] = vector.x;
        row[1] = vector.y;
        row[2] = vector.z;
      }
    }
    clear();
  }

 private:
  const EdgeBlock& a;
  const Range& range;
  const int warp;
  const Lane& lane;
  int open_, start_, stop_;
  float sums_[Width / 4];
  Vec3<float> vector_;

  CLOF_DEVICE void clear() {
    open_ = -1;
#pragma unroll
    for (float& sum : sums_) sum = 0.0f;
    vector_ = {0.0f, 0.0f, 0.0f};
  }
};

// One warp: if a receiver begins in the range of `warp` and goes on behind it, the sum of its parts, in their order.
template <int Width, int Size, class Write>
CLOF_DEVICE void join(const EdgeBlock& a, int warp, int warps, const Lane& lane, const Write& write) {
  const Range range = Range::of<Size>(a, warp, warps);
  // There may be more warps than tiles.
  if (range.begin == range.end || range.end == a.end) return;
  const int receiver = a.graph.receiver[a.graph.by_receiver[range.end - 1]];
  const int start = a.graph.receiver_start[receiver], stop = a.graph.receiver_start[receiver + 1];
  const bool begins = start >= range.begin || range.begin == a.begin;
  if (stop <= range.end || !begins) return;
  constexpr int kOwn = Width / kWarp;
  float sums[kOwn];
  const float* row = partial_row<Width>(a, warp, 1);
  for (int k = 0; k < kOwn; ++k) sums[k] = row[kOwn * lane.number + k];
  Vec3<float> vector = {row[Width], row[Width + 1], row[Width + 2]};
  int end = range.end;
  for (int next = warp + 1; end < stop && end < a.end; ++next) {
    const Range other = Range::of<Size>(a, next, warps);
    if (other.begin == other.end) continue;
    row = partial_row<Width>(a, next, 0);
    for (int k = 0; k < kOwn; ++k) sums[k] += row[kOwn * lane.number + k];
    vector = vector + Vec3<float>{row[Width], row[Width + 1], row[Width + 2]};
    end = other.end;
  }
  for (int k = 0; k < kOwn; k += 2)
    write.features(receiver, stop - start, kOwn * lane.number + k, sums[k], sums[k + 1]);
  if (lane.number == 0) write.vector(receiver, stop - start, vector);
}

// The same for one receiver, wherever its edges begin.
template <int Width, int Size, class Write>
CLOF_DEVICE void join_receiver(const EdgeBlock& a, int receiver, int warps, const Lane& lane, const Write& write) {
  const int start = a.graph.receiver_start[receiver], stop = a.graph.receiver_start[receiver + 1];
  const int first = start > a.begin ? start : a.begin, end = stop < a.end ? stop : a.end;
  if (first >= end) return;
  const int warp = Range::warp_of<Size>(a, first, warps);
  if (Range::of<Size>(a, warp, warps).end < end) join<Width, Size>(a, warp, warps, lane, write);
}

}  // namespace clof::cuda
