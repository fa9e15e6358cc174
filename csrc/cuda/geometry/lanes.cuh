// What the geometry kernels share: lanes and warps, sums over groups of lanes, and copies of whole rows. Sums add in an
// order that does not depend on time: the same bits on every run.
#pragma once

#include <cstdint>
#include <cstring>

#include "../../functor/lanes.h"
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

// The same from `First` on up to all lanes, each step on its own in the code.
template <int First, class T> CLOF_DEVICE T sum_over_lanes(T value) {
#pragma unroll
  for (int mask = First; mask < kLanes; mask *= 2) value += shuffle_xor(value, mask);
  return value;
}

// Nine sums over the lanes of each group of `Group` lanes, a power of 2. It takes about half of the exchange that nine
// single sums need: in each step a lane keeps one half of the first eight and gives the other away.
//
// All lanes get the last sum, in value[8]. Of the others a lane gets those numbered number, ..., number + count - 1, in
// value[0], ...; lanes of a group whose numbers have the same quotient by `same` get the same ones.
template <int Group, class T> struct SharedSums {
  static constexpr int count = Group < 8 ? 8 / Group : 1, same = Group < 8 ? 1 : Group / 8;
  int number = 0;

  CLOF_DEVICE explicit SharedSums(T (&value)[9]) {
    int mask = Group / 2;
#pragma unroll
    for (int half = 4; half >= count; half /= 2) {
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
#pragma unroll
    for (; mask > 0; mask /= 2) {
      value[0] += shuffle_xor(value[0], mask);
      value[8] += shuffle_xor(value[8], mask);
    }
  }
};

// Bytes that one instruction can move, and how many numbers they hold.
constexpr int kPieceBytes = sizeof(int4);
template <class T> constexpr int kPiece = kPieceBytes / int(sizeof(T));

// Copies numbers from global to shared memory, which the whole block does: 16 bytes at a time, none of which passes
// through registers. They are there when each thread has called copies_arrive() and then come to a barrier. `to` is
// aligned to 16 bytes, with room for a piece more; the numbers lie as far from such a place as in global memory, from
// the address on that this gives.
template <class T> CLOF_DEVICE T* copy_in(T* to, const T* from, int count) {
  const int shift = int(reinterpret_cast<uintptr_t>(from) % kPieceBytes / sizeof(T)), end = shift + count;
  const int first = (shift + kPiece<T> - 1) / kPiece<T>, last = end / kPiece<T>;
  from -= shift;
#pragma unroll 1
  for (int k = first + thread_index(); k < last; k += num_threads())
    copy_later(to + k * kPiece<T>, from + k * kPiece<T>);
  // What does not fill a piece, at either end; all of it is at the first if there is no whole piece before the last.
  const int k = thread_index() % kPiece<T> + (thread_index() < kPiece<T> ? 0 : last * kPiece<T>);
  const int ends = last > 0 ? 2 : 1;
  if (thread_index() < ends * kPiece<T> && k >= shift && k < end && (k < first * kPiece<T> || k >= last * kPiece<T>)) {
    to[k] = from[k];
  }
  return to + shift;
}

// A row of numbers in shared memory, of which each begins at a multiple of its size from a place aligned to 16 bytes;
// the bytes that one instruction reads or writes divide the row.
template <class T, int Width> constexpr int kRowPiece = Width % kPiece<T> == 0       ? kPiece<T>
                                                        : Width * sizeof(T) % 8 == 0 ? 8 / int(sizeof(T))
                                                                                     : 1;

template <class T, int Count> struct alignas(Count * sizeof(T)) Piece {
  T at[Count];
};

template <int Width, class T> CLOF_DEVICE Numbers<T, Width> load_row(const T* from) {
  constexpr int piece = kRowPiece<T, Width>;
  Numbers<T, Width> row;
#pragma unroll
  for (int k = 0; k < Width; k += piece) {
    const Piece<T, piece> x = *reinterpret_cast<const Piece<T, piece>*>(from + k);
#pragma unroll
    for (int i = 0; i < piece; ++i) row.at[k + i] = x.at[i];
  }
  return row;
}
// Writes the first Count numbers at least.
template <int Width, int Count, class T> CLOF_DEVICE void store_row(T* to, const Numbers<T, Width>& row) {
  constexpr int piece = kRowPiece<T, Width>;
#pragma unroll
  for (int k = 0; k < Count; k += piece) {
    Piece<T, piece> x;
#pragma unroll
    for (int i = 0; i < piece; ++i) x.at[i] = row.at[k + i];
    *reinterpret_cast<Piece<T, piece>*>(to + k) = x;
  }
}

// Copies numbers from shared to global memory, which a whole warp does: 16 bytes at a time where it can.
template <class T> CLOF_DEVICE void copy_out(T* to, const T* from, int count) {
  int done = 0;
  if (reinterpret_cast<uintptr_t>(to) % kPieceBytes == 0) {
    const int steps = count / kPiece<T>;
#pragma unroll 2
    for (int k = lane_index(); k < steps; k += kLanes) {
      reinterpret_cast<int4*>(to)[k] = reinterpret_cast<const int4*>(from)[k];
    }
    done = steps * kPiece<T>;
  }
#pragma unroll 1
  for (int k = done + lane_index(); k < count; k += kLanes) to[k] = from[k];
}

}  // namespace clof::cuda
