// Activations and gradients of all of a block's edges in shared memory, as operands of the products that sum weights'
// gradients over edges: dW = (gradients)^T (inputs), for which tensor cores want edges along the inner dimension.
//
// A slot has kBlockEdges rows of Width * 4 bytes. A warp keeps what it will need of its own 16 rows there too, in an
// order of its own; an operand has features in their natural order, but for exchanges of columns, by rows, so that
// neither writing nor reading finds a bank of shared memory twice.
#pragma once

#include "rows.cuh"

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
template <class Kind, int Width> constexpr int kOperandRow = Width * int(sizeof(float) / sizeof(typename Kind::Stored));

// What is added to a column of a row by exclusive or, where only the row's lowest three bits matter.
template <class Kind> CLOF_DEVICE int exchanged(int row) {
  return Kind::kHalf ? 8 * (4 * (row & 1) + (row >> 1 & 3)) : 16 * (row & 1) + 8 * (row >> 1 & 1);
}

// Writes rows of a warp: two pointers, and constants.
template <class Kind, int Width> class OperandWriter {
 public:
  using Stored = typename Kind::Stored;

  CLOF_DEVICE OperandWriter(char* slot, int warp, const Lane& lane) {
    // The exchange moves whole units of 64 bytes by the row's lowest bit, and groups within a unit by the others.
    const int unit = (lane.g & 1) * kUnit<Kind>, within = exchanged<Kind>(lane.g) & (kUnit<Kind> - 1);
    Stored* row = reinterpret_cast<Stored*>(slot) + (kRows * warp + lane.g) * kOperandRow<Kind, Width>;
    even_ = row + ((Kind::kGroup * lane.t) ^ within) + unit;
    odd_ = row + ((Kind::kGroup * lane.t) ^ within) - unit;
  }

  // The lane's group of unit p of row g + 8 h.
  CLOF_DEVICE void group(int h, int p, uint4 words) const {
    Stored* to = p % 2 ? odd_ : even_;
    *reinterpret_cast<uint4*>(to + 8 * h * kOperandRow<Kind, Width> + p * kUnit<Kind>) = words;
  }

  // What the lane wrote.
  CLOF_DEVICE void read_rows(Rows<Width>& rows) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int n = 0; n < Width / 8; n += kBlocks<Kind>) {
        const int p = n / kBlocks<Kind>;
        const Stored* from = (p % 2 ? odd_ : even_) + 8 * h * kOperandRow<Kind, Width> + p * kUnit<Kind>;
        float values[Kind::kGroup];
        unpack_group<Kind>(*reinterpret_cast<const uint4*>(from), values);
#pragma unroll
        for (int k = 0; k < Kind::kGroup; ++k) rows.at[n + k / 2][2 * h + k % 2] = values[k];
      }
    }
  }

  CLOF_DEVICE void rows(const Rows<Width>& rows) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int n = 0; n < Width / 8; n += kBlocks<Kind>) {
        float values[Kind::kGroup];
#pragma unroll
        for (int k = 0; k < Kind::kGroup; ++k) {
          values[k] = rows.at[n + k / 2][2 * h + k % 2];
          if constexpr (!Kind::kHalf) values[k] = float_of(Kind::operand(values[k]));
        }
        group(h, n / kBlocks<Kind>, pack_group<Kind>(values));
      }
    }
  }

 private:
  Stored* even_;
  Stored* odd_;
};

// Operand registers for features 16 m ... 16 m + 15 as results.
template <class Kind, int Width> class LeftReader {
 public:
  using Stored = typename Kind::Stored;

  CLOF_DEVICE LeftReader(const char* slot, int m, const Lane& lane) {
    const auto* base = reinterpret_cast<const Stored*>(slot);
    if constexpr (Kind::kHalf) {
      const int matrix = lane.number / 8, row = lane.number % 8 + 8 * (matrix / 2);
      from_[0] = base + row * kOperandRow<Kind, Width> + ((16 * m + 8 * (matrix % 2)) ^ exchanged<Kind>(row));
    } else {
      for (int k = 0; k < 2; ++k) {
        from_[k] = base + lane.t * kOperandRow<Kind, Width> + ((16 * m + 8 * k + lane.g) ^ exchanged<Kind>(lane.t));
      }
    }
  }

  CLOF_DEVICE void read(uint32_t (&a)[4], int s) const {
    const int step = s * kStepEdges<Kind> * kOperandRow<Kind, Width>;
    if constexpr (Kind::kHalf) {
      load_transposed(a, from_[0] + step);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) a[k] = bits_of(from_[k % 2][step + 4 * (k / 2) * kOperandRow<Kind, Width>]);
    }
  }

 private:
  const Stored* from_[Kind::kHalf ? 1 : 2];
};

// Operand registers for one block of eight features as columns: of 16-bit numbers the first half of a pair's.
template <class Kind, int Width> class BlockReader {
 public:
  using Stored = typename Kind::Stored;

  CLOF_DEVICE BlockReader(const char* slot, int block, const Lane& lane) {
    const auto* base = reinterpret_cast<const Stored*>(slot);
    const int row = Kind::kHalf ? lane.number % 16 : lane.t;
    from_ = base + row * kOperandRow<Kind, Width> + ((8 * block + (Kind::kHalf ? 0 : lane.g)) ^ exchanged<Kind>(row));
  }

  CLOF_DEVICE void read(uint32_t (&b)[2], int s) const {
    const int step = s * kStepEdges<Kind> * kOperandRow<Kind, Width>;
    if constexpr (Kind::kHalf) {
      uint32_t twice[4];
      load_transposed(twice, from_ + step);
      b[0] = twice[0];
      b[1] = twice[1];
    } else {
#pragma unroll
      for (int k = 0; k < 2; ++k) b[k] = bits_of(from_[step + 4 * k * kOperandRow<Kind, Width>]);
    }
  }

 private:
  const Stored* from_;
};

// Operand registers for 2 * Pairs blocks of eight features as columns, from block `first` on.
template <class Kind, int Width, int Pairs> class RightReader {
 public:
  using Stored = typename Kind::Stored;

  CLOF_DEVICE RightReader(const char* slot, int first, const Lane& lane) {
    const auto* base = reinterpret_cast<const Stored*>(slot);
    if constexpr (Kind::kHalf) {
      const int matrix = lane.number / 8, row = lane.number % 8 + 8 * (matrix % 2);
#pragma unroll
      for (int j = 0; j < Pairs; ++j) {
        const int block = first + 2 * j + matrix / 2;
        from_[j] = base + row * kOperandRow<Kind, Width> + ((8 * block) ^ exchanged<Kind>(row));
      }
    } else {
#pragma unroll
      for (int j = 0; j < 2 * Pairs; ++j) {
        from_[j] = base + lane.t * kOperandRow<Kind, Width> + ((8 * (first + j) + lane.g) ^ exchanged<Kind>(lane.t));
      }
    }
  }

  // b[0], b[1] of the pair's first block, b[2], b[3] of its second.
  CLOF_DEVICE void read(uint32_t (&b)[4], int s, int pair) const {
    const int step = s * kStepEdges<Kind> * kOperandRow<Kind, Width>;
    if constexpr (Kind::kHalf) {
      load_transposed(b, from_[pair] + step);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        b[k] = bits_of(from_[2 * pair + k / 2][step + 4 * (k % 2) * kOperandRow<Kind, Width>]);
      }
    }
  }

 private:
  const Stored* from_[Kind::kHalf ? Pairs : 2 * Pairs];
};

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
