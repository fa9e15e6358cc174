// Activations and gradients of all of a block's edges in shared memory, as operands of the products that sum weights'
// gradients over edges: dW = (gradients)^T (inputs), for which tensor cores want edges along the inner dimension.
//
// A slot has kBlockEdges rows of Width * 4 bytes. A warp keeps what it will need of its own 16 rows there too, in an
// order of its own; `Operand` puts features in their natural order. Columns are exchanged, by rows, so that neither
// writing nor reading finds a bank of shared memory twice.
#pragma once

#include "rows.cuh"

namespace clof::cuda {

constexpr int kBackwardWarps = 8;
constexpr int kBlockEdges = kBackwardWarps * kRows;

// Numbers that only the lane that keeps them takes back.
template <int Width> CLOF_DEVICE float4* kept_place(char* slot, int n, int warp, const Lane& lane) {
  return reinterpret_cast<float4*>(slot + warp * kRows * Width * int(sizeof(float))) + n * kWarp + lane.number;
}
template <int Width> CLOF_DEVICE void keep(const Rows<Width>& rows, char* slot, int warp, const Lane& lane) {
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
    *kept_place<Width>(slot, n, warp, lane) = {rows.at[n][0], rows.at[n][1], rows.at[n][2], rows.at[n][3]};
  }
}
template <int Width> CLOF_DEVICE void take_back(Rows<Width>& rows, char* slot, int warp, const Lane& lane) {
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
    const float4 x = *kept_place<Width>(slot, n, warp, lane);
    rows.at[n][0] = x.x;
    rows.at[n][1] = x.y;
    rows.at[n][2] = x.z;
    rows.at[n][3] = x.w;
  }
}

template <class Kind, int Width> class Operand {
 public:
  using Stored = typename Kind::Stored;

  CLOF_DEVICE explicit Operand(char* slot) : base_(reinterpret_cast<Stored*>(slot)) {}

  // Writes a warp's rows. What lies there may be read by all lanes of the warp until here.
  CLOF_DEVICE void store(const Rows<Width>& rows, int warp, const Lane& lane) const {
    warp_barrier();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      for_groups<Kind, Width>(lane, [&](int n, int first) {
        float values[Kind::kGroup];
#pragma unroll
        for (int k = 0; k < Kind::kGroup; ++k) {
          values[k] = rows.at[n + k / 2][2 * h + k % 2];
          if constexpr (!Kind::kHalf) values[k] = float_of(Kind::operand(values[k]));
        }
        store_group(kRows * warp + lane.g + 8 * h, first, pack_group<Kind>(values));
      });
    }
  }
  // The group of a row that begins at feature `first`.
  CLOF_DEVICE void store_group(int row, int first, uint4 words) const { *reinterpret_cast<uint4*>(at(row, first)) = words; }

  // Operand registers for features 16 m ... 16 m + 15 as results, over the edges of step s.
  CLOF_DEVICE void left(uint32_t (&a)[4], int s, int m, const Lane& lane) const {
    if constexpr (Kind::kHalf) {
      const int matrix = lane.number / 8, row = lane.number % 8;
      load_transposed(a, at(16 * s + row + 8 * (matrix / 2), 16 * m + 8 * (matrix % 2)));
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) a[k] = bits_of(*at(8 * s + lane.t + 4 * (k / 2), 16 * m + lane.g + 8 * (k % 2)));
    }
  }
  // Operand registers for features 8 n ... 8 n + 15 as columns, b[0], b[1] of the first eight.
  CLOF_DEVICE void right(uint32_t (&b)[4], int s, int n, const Lane& lane) const {
    if constexpr (Kind::kHalf) {
      const int matrix = lane.number / 8, row = lane.number % 8;
      load_transposed(b, at(16 * s + row + 8 * (matrix % 2), 8 * (n + matrix / 2)));
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) b[k] = bits_of(*at(8 * s + lane.t + 4 * (k % 2), 8 * (n + k / 2) + lane.g));
    }
  }

 private:
  static constexpr int kStride = Width * int(sizeof(float)) / int(sizeof(Stored));
  Stored* base_;

  CLOF_DEVICE Stored* at(int row, int column) const {
    const int exchanged = Kind::kHalf ? column ^ (8 * (4 * (row & 1) + (row >> 1 & 3)))
                                      : column ^ (16 * (row & 1) + 8 * (row >> 1 & 1));
    return base_ + row * kStride + exchanged;
  }
};

// Edges of a product's step.
template <class Kind> constexpr int kStepEdges = Kind::kHalf ? 16 : 8;

// Operand registers whose rows or columns are vectors of a number for each edge: value(edge) is that of this lane's, of
// number lane.g.
template <class Kind, class Value> CLOF_DEVICE void edge_vectors(uint32_t& first, uint32_t& second, int s,
                                                                 const Lane& lane, const Value& value) {
  if constexpr (Kind::kHalf) {
    const int edge = 16 * s + 2 * lane.t;
    first = Kind::pack(value(edge), value(edge + 1));
    second = Kind::pack(value(edge + 8), value(edge + 9));
  } else {
    const int edge = 8 * s + lane.t;
    first = Kind::operand(value(edge));
    second = Kind::operand(value(edge + 4));
  }
}

}  // namespace clof::cuda
