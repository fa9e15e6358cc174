// What the geometry kernels share: lanes and warps, sums over groups of lanes, and copies of whole rows. Sums add in an
// order that does not depend on time: the same bits on every run.
#pragma once

#include <cstdint>
#include <cstring>

#include "../tile/warp.cuh"

namespace clof::cuda {

constexpr int kLanes = 32;

CLOF_DEVICE int lane_index() { return thread_index() % kLanes; }
CLOF_DEVICE int warp_index() { return thread_index() / kLanes; }

template <class I> CLOF_DEVICE I smaller(I x, I y) { return x < y ? x : y; }
template <class I> CLOF_DEVICE I larger(I x, I y) { return x < y ? y : x; }

CLOF_DEVICE double shuffle_xor(double value, int mask) {
  int halves[2];
  std::memcpy(halves, &value, sizeof value);
  for (int& half : halves) half = shuffle_xor(half, mask);
  std::memcpy(&value, halves, sizeof value);
  return value;
}

// The sum over the lanes whose numbers differ in the bits from `first` up to, not including, `end`: powers of 2. All
// lanes of the warp call it and get their group's sum.
template <class T> CLOF_DEVICE T sum_over_lanes(T value, int first, int end) {
#pragma unroll 1
  for (int mask = first; mask < end; mask *= 2) value += shuffle_xor(value, mask);
  return value;
}

// Nine sums over the lanes of each group of `Group` lanes, a power of 2. From 8 lanes on it takes half of the exchange
// that nine single sums need: in each step a lane keeps one half of the first eight and gives the other away.
//
// All lanes get the last sum, in value[8]. Of the others a lane gets those numbered number, ..., number + count - 1, in
// value[0], ...; lanes of a group that differ in the bits below Group / 8 get the same ones.
template <int Group, class T> struct SharedSums {
  static constexpr int count = Group < 8 ? 8 : 1;
  int number = 0;

  CLOF_DEVICE explicit SharedSums(T (&value)[9]) {
    int mask = Group / 2;
    if constexpr (count == 1) {
#pragma unroll
      for (int half = 4; half > 0; half /= 2) {
        const bool upper = lane_index() & mask;
#pragma unroll
        for (int k = 0; k < half; ++k) {
          const T given = upper ? value[k] : value[k + half], kept = upper ? value[k + half] : value[k];
          value[k] = kept + shuffle_xor(given, mask);
        }
        value[8] += shuffle_xor(value[8], mask);
        number += upper ? half : 0;
        mask /= 2;
      }
    }
#pragma unroll
    for (; mask > 0; mask /= 2) {
#pragma unroll
      for (int k = 0; k < count; ++k) value[k] += shuffle_xor(value[k], mask);
      value[8] += shuffle_xor(value[8], mask);
    }
  }
};

// Copies numbers from shared to global memory, which the whole block does: 16 bytes at a time where it can.
template <class T> CLOF_DEVICE void copy_out(T* to, const T* from, int count) {
  constexpr int per_step = sizeof(int4) / sizeof(T);
  int done = 0;
  if (reinterpret_cast<uintptr_t>(to) % sizeof(int4) == 0) {
    const int steps = count / per_step;
    for (int k = thread_index(); k < steps; k += num_threads()) {
      reinterpret_cast<int4*>(to)[k] = reinterpret_cast<const int4*>(from)[k];
    }
    done = steps * per_step;
  }
  for (int k = done + thread_index(); k < count; k += num_threads()) to[k] = from[k];
}

}  // namespace clof::cuda
