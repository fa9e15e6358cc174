// Activations and gradients of all of a block's edges in shared memory, as operands of the products that sum weights'
// gradients over edges: dW = (gradients)^T (inputs), for which tensor cores want edges along the inner dimension.
//
// A slot has 16 Width * 4 bytes for each warp. A warp keeps what it will need of its own 16 rows there too, in an order
// of its own. Operands of 16 bits have a row for each edge, which tensor cores' loads transpose, and features in their
// natural order. Those of 32 bits are transposed where they are written, a row of 16 edges for each feature, because
// such loads know 16 bits alone. Exchanges, by rows, are made so that neither writing nor reading finds a bank of
// shared memory twice.
#pragma once

#include "product.cuh"

namespace clof::cuda {

constexpr int kBackwardWarps = 8;
constexpr int kBlockEdges = kBackwardWarps * kRows;

// Numbers that only the lane that keeps them takes back.
template <int Width> CLOF_DEVICE float4* kept_place(char* slot, int warp, const Lane& lane) {
  return reinterpret_cast<float4*>(slot + warp * kRows * Width * int(sizeof(float))) + lane.number;
}
template <int Width> CLOF_DEVICE void keep(const Rows<Width>& rows, char* slot, int warp, const Lane& lane) {
  float4* place = kept_place<Width>(slot, warp, lane);
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
    place[n * kWarp] = {rows.at[n][0], rows.at[n][1], rows.at[n][2], rows.at[n][3]};
  }
}
template <int Width> CLOF_DEVICE void take_back(Rows<Width>& rows, char* slot, int warp, const Lane& lane) {
  const float4* place = kept_place<Width>(slot, warp, lane);
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
    const float4 x = place[n * kWarp];
    rows.at[n][0] = x.x;
    rows.at[n][1] = x.y;
    rows.at[n][2] = x.z;
    rows.at[n][3] = x.w;
  }
}

// Edges of a product's step.
template <class Kind> constexpr int kStepEdges = Kind::kHalf ? 16 : 8;

// What a warp writes of its rows, and reads back: four pointers at most, and constants.
template <class Kind, int Width, bool kHalf = Kind::kHalf> class OperandWriter;
// Operand registers for the features of blocks 2 m and 2 m + 1 as results.
template <class Kind, int Width, bool kHalf = Kind::kHalf> class LeftReader;
// Operand registers for pairs of blocks of eight features as columns, from block `first` on.
template <class Kind, int Width, int Pairs, bool kHalf = Kind::kHalf> class RightReader;
// Operand registers for one block of eight features as columns, and 16 edges: those of a step in b[0] and b[1], of the
// next, if 16 edges are two, in b[2] and b[3].
template <class Kind, int Width, bool kHalf = Kind::kHalf> class BlockReader;

// Numbers of a row of 16 bits: half of what 32 bits would need.
template <int Width> constexpr int kHalfRow = 2 * Width;

// What is added to a column of a row by exclusive or, where only the row's lowest three bits matter.
CLOF_DEVICE int exchanged(int row) { return 8 * (4 * (row & 1) + (row >> 1 & 3)); }

template <class Kind, int Width> class OperandWriter<Kind, Width, true> {
 public:
  CLOF_DEVICE OperandWriter(char* slot, int warp, const Lane& lane) {
    // The exchange moves whole units of 64 bytes by the row's lowest bit, and groups within a unit by the others.
    const int unit = (lane.g & 1) * kUnit<Kind>, within = exchanged(lane.g) & (kUnit<Kind> - 1);
    uint16_t* row = reinterpret_cast<uint16_t*>(slot) + (kRows * warp + lane.g) * kHalfRow<Width>;
    even_ = row + ((Kind::kGroup * lane.t) ^ within) + unit;
    odd_ = row + ((Kind::kGroup * lane.t) ^ within) - unit;
  }

  // The lane's group of unit p of row g + 8 h.
  CLOF_DEVICE void group(int h, int p, uint4 words) const { *place(h, p) = words; }

  CLOF_DEVICE void rows(const OperandRows<Kind, Width>& rows) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int p = 0; p < Width / kUnit<Kind>; ++p) {
        group(h, p, {rows.at[4 * p][h], rows.at[4 * p + 1][h], rows.at[4 * p + 2][h], rows.at[4 * p + 3][h]});
      }
    }
  }

  CLOF_DEVICE void read_rows(Rows<Width>& rows) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int p = 0; p < Width / kUnit<Kind>; ++p) {
        float values[Kind::kGroup];
        unpack_group<Kind>(*place(h, p), values);
#pragma unroll
        for (int k = 0; k < Kind::kGroup; ++k) rows.at[4 * p + k / 2][2 * h + k % 2] = values[k];
      }
    }
  }

 private:
  uint16_t* even_;
  uint16_t* odd_;

  CLOF_DEVICE uint4* place(int h, int p) const {
    return reinterpret_cast<uint4*>((p % 2 ? odd_ : even_) + 8 * h * kHalfRow<Width> + p * kUnit<Kind>);
  }
};

template <class Kind, int Width> class LeftReader<Kind, Width, true> {
 public:
  CLOF_DEVICE LeftReader(const char* slot, int m, const Lane& lane) {
    const int matrix = lane.number / 8, row = lane.number % 8 + 8 * (matrix / 2);
    from_ = reinterpret_cast<const uint16_t*>(slot) + row * kHalfRow<Width> +
            ((16 * m + 8 * (matrix % 2)) ^ exchanged(row));
  }
  CLOF_DEVICE void read(uint32_t (&a)[4], int s) const { load_transposed(a, from_ + s * kRows * kHalfRow<Width>); }

 private:
  const uint16_t* from_;
};

template <class Kind, int Width, int Pairs> class RightReader<Kind, Width, Pairs, true> {
 public:
  CLOF_DEVICE RightReader(const char* slot, int first, const Lane& lane) {
    const int matrix = lane.number / 8, row = lane.number % 8 + 8 * (matrix % 2);
    const auto* from = reinterpret_cast<const uint16_t*>(slot) + row * kHalfRow<Width>;
#pragma unroll
    for (int j = 0; j < Pairs; ++j) from_[j] = from + ((8 * (first + 2 * j + matrix / 2)) ^ exchanged(row));
  }
  // b[0], b[1] of the pair's first block, b[2], b[3] of its second.
  CLOF_DEVICE void read(uint32_t (&b)[4], int s, int pair) const {
    load_transposed(b, from_[pair] + s * kRows * kHalfRow<Width>);
  }

 private:
  const uint16_t* from_[Pairs];
};

template <class Kind, int Width> class BlockReader<Kind, Width, true> {
 public:
  CLOF_DEVICE BlockReader(const char* slot, int block, const Lane& lane) {
    const int row = lane.number % 16;
    from_ = reinterpret_cast<const uint16_t*>(slot) + row * kHalfRow<Width> + ((8 * block) ^ exchanged(row));
  }
  CLOF_DEVICE void read(uint32_t (&b)[4], int tile) const {
    load_transposed(b, from_ + tile * kRows * kHalfRow<Width>);
  }

 private:
  const uint16_t* from_;
};

// Numbers of 32 bits. Of the eight features (t, e) of block n that of t and e has row 8 n + 2 pair + t % 2, and its 16
// edges lie in four groups, group c in the place c ^ pair.
struct TransposedPlace {
  static constexpr int kRow = kRows, kBlock = 8 * kRow;

  CLOF_DEVICE static int pair(int t, int e) { return 2 * (t >> 1) + e; }
  // The first number of a group of edges of block 0.
  CLOF_DEVICE static int of(int t, int e, int c) { return kRow * (2 * pair(t, e) + (t & 1)) + 4 * (c ^ pair(t, e)); }
};

// Numbers of a warp's rows.
template <int Width> constexpr int kWarpNumbers = kRows * Width;

template <class Kind, int Width> class OperandWriter<Kind, Width, false> {
 public:
  CLOF_DEVICE OperandWriter(char* slot, int warp, const Lane& lane) {
    auto* base = reinterpret_cast<uint32_t*>(slot) + warp * kWarpNumbers<Width> + lane.g % 4;
#pragma unroll
    for (int k = 0; k < 4; ++k) to_[k] = base + TransposedPlace::of(lane.t, k % 2, 2 * (k / 2) + lane.g / 4);
  }

  // The lane's group of unit p of row g + 8 h.
  CLOF_DEVICE void group(int h, int p, uint4 words) const {
    *place(2 * p, 2 * h) = words.x;
    *place(2 * p, 2 * h + 1) = words.y;
    *place(2 * p + 1, 2 * h) = words.z;
    *place(2 * p + 1, 2 * h + 1) = words.w;
  }

  CLOF_DEVICE void rows(const OperandRows<Kind, Width>& rows) const {
#pragma unroll
    for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) *place(n, k) = rows.at[n][k];
    }
  }

  CLOF_DEVICE void read_rows(Rows<Width>& rows) const {
#pragma unroll
    for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) rows.at[n][k] = float_of(*place(n, k));
    }
  }

 private:
  uint32_t* to_[4];

  CLOF_DEVICE uint32_t* place(int n, int k) const { return to_[k] + n * TransposedPlace::kBlock; }
};

// Where a lane's row of a load of four matrices lies: eight features of a block and four edges, in steps of even and of
// odd number.
template <int Width> class MatrixRow {
 public:
  CLOF_DEVICE MatrixRow(const char* slot, int block, int group, const Lane& lane) {
    const int row = lane.number % 8;
    const auto* base = reinterpret_cast<const float*>(slot) + block * TransposedPlace::kBlock;
#pragma unroll
    for (int k = 0; k < 2; ++k) from_[k] = base + TransposedPlace::of(row / 2, row % 2, 2 * k + group);
  }
  CLOF_DEVICE const float* at(int s, int block) const {
    return from_[s % 2] + s / 2 * kWarpNumbers<Width> + block * TransposedPlace::kBlock;
  }

 private:
  const float* from_[2];
};

template <class Kind, int Width> class LeftReader<Kind, Width, false> {
 public:
  CLOF_DEVICE LeftReader(const char* slot, int m, const Lane& lane)
      : row_(slot, 2 * m + lane.number / 8 % 2, lane.number / 16, lane) {}
  CLOF_DEVICE void read(uint32_t (&a)[4], int s) const { load_matrices(a, row_.at(s, 0)); }

 private:
  const MatrixRow<Width> row_;
};

template <class Kind, int Width, int Pairs> class RightReader<Kind, Width, Pairs, false> {
 public:
  CLOF_DEVICE RightReader(const char* slot, int first, const Lane& lane)
      : row_(slot, first + lane.number / 16, lane.number / 8 % 2, lane) {}
  // b[0], b[1] of the pair's first block, b[2], b[3] of its second.
  CLOF_DEVICE void read(uint32_t (&b)[4], int s, int pair) const { load_matrices(b, row_.at(s, 2 * pair)); }

 private:
  const MatrixRow<Width> row_;
};

template <class Kind, int Width> class BlockReader<Kind, Width, false> {
 public:
  CLOF_DEVICE BlockReader(const char* slot, int block, const Lane& lane) {
    const int row = lane.number % 8;
    from_ = reinterpret_cast<const float*>(slot) + block * TransposedPlace::kBlock +
            TransposedPlace::of(row / 2, row % 2, lane.number / 8);
  }
  CLOF_DEVICE void read(uint32_t (&b)[4], int tile) const { load_matrices(b, from_ + tile * kWarpNumbers<Width>); }

 private:
  const float* from_;
};

// The feature of a result that a reader leaves in row g + 8 h of blocks 2 m and 2 m + 1, and in column 2 t + e of a
// block.
template <class Kind> CLOF_DEVICE int left_feature(int m, int h, const Lane& lane) {
  return Kind::kHalf ? 16 * m + 8 * h + lane.g : feature<Kind>(2 * m + h, lane.g / 2, lane.g % 2);
}
template <class Kind> CLOF_DEVICE int right_feature(int block, int e, const Lane& lane) {
  return Kind::kHalf ? 8 * block + 2 * lane.t + e : feature<Kind>(block, lane.t, e);
}
// Blocks that hold so many features.
template <class Kind> CLOF_DEVICE int blocks_of(int columns) {
  return Kind::kHalf ? (columns + 7) / 8 : (columns + 15) / 16 * 2;
}

// Operand registers whose rows or columns are vectors of a number for each edge: value(edge) is that of this lane's, of
// number lane.g.
template <class Kind, class Value>
CLOF_DEVICE void edge_vectors(uint32_t& first, uint32_t& second, int s, const Lane& lane, const Value& value) {
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
