// Products of 16 rows with a matrix of weights, of which a row holds the weights of one result.
//
// Weights lie in an image (image.h): rows of Kind::Stored padded to whole 64 bytes. A lane reads 16 bytes of the row of
// one result: operands of two steps along the inputs. Where rows are a multiple of 128 bytes, every second one has the
// halves of each 128 bytes exchanged, so that the eight lanes that read at one time find all banks of shared memory.
#pragma once

#include "rows.cuh"

namespace clof::cuda {

template <class Kind> CLOF_DEVICE int weight_column(int row, int column, int columns) {
  constexpr int kHalf = 64 / sizeof(typename Kind::Stored);
  return columns % (2 * kHalf) == 0 ? column ^ ((row & 1) * kHalf) : column;
}

// The row of results that lane 4 g + t reads for block n.
template <class Kind> CLOF_DEVICE int result_of(int n, const Lane& lane) { return feature<Kind>(n, lane.g / 2, lane.g % 2); }

// Operand registers of steps 2 p and 2 p + 1 along the inputs, from rows in registers.
template <class Kind, int Width>
CLOF_DEVICE void operands(const Rows<Width>& rows, int p, uint32_t (&a)[2][4]) {
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    if constexpr (Kind::kHalf) {
      const auto& low = rows.at[4 * p + 2 * s];
      const auto& high = rows.at[4 * p + 2 * s + 1];
      a[s][0] = Kind::pack(low[0], low[1]);
      a[s][1] = Kind::pack(low[2], low[3]);
      a[s][2] = Kind::pack(high[0], high[1]);
      a[s][3] = Kind::pack(high[2], high[3]);
    } else {
      const auto& x = rows.at[2 * p + s];
      a[s][0] = Kind::operand(x[0]);
      a[s][1] = Kind::operand(x[2]);
      a[s][2] = Kind::operand(x[1]);
      a[s][3] = Kind::operand(x[3]);
    }
  }
}

// sums += (operands of inputs 4 G p ... 4 G (p + 1)) times their weights.
template <class Kind, int Results>
CLOF_DEVICE void multiply_group(Rows<Results>& sums, const uint32_t (&a)[2][4], const typename Kind::Stored* weights,
                                int columns, int p, const Lane& lane) {
#pragma unroll
  for (int n = 0; n < Results / 8; ++n) {
    const int row = result_of<Kind>(n, lane);
    const int column = weight_column<Kind>(row, Kind::kGroup * (4 * p + lane.t), columns);
    const uint4 b = *reinterpret_cast<const uint4*>(weights + row * columns + column);
    Kind::multiply(sums.at[n], a[0], b.x, b.y);
    Kind::multiply(sums.at[n], a[1], b.z, b.w);
  }
}

// sums += rows W^T.
template <class Kind, int Results, int Inputs>
CLOF_DEVICE void add_product(Rows<Results>& sums, const Rows<Inputs>& rows, const typename Kind::Stored* weights,
                             const Lane& lane) {
#pragma unroll
  for (int p = 0; p < Inputs / (4 * Kind::kGroup); ++p) {
    uint32_t a[2][4];
    operands<Kind>(rows, p, a);
    multiply_group<Kind>(sums, a, weights, Inputs, p, lane);
  }
}

// Rows of an array in memory, of any width; a lane's two.
struct RowsInMemory {
  const void* base;
  int64_t first[2];
  int width;
};

// A group of a row, where `column` is its first number; 0 beyond the row.
template <class Kind> CLOF_DEVICE uint4 load_group(const RowsInMemory& rows, int h, int column) {
  const int64_t first = rows.first[h] + column;
  if (rows.width % Kind::kGroup == 0) {
    if (column >= rows.width) return {0, 0, 0, 0};
    return *reinterpret_cast<const uint4*>(static_cast<const typename Kind::Stored*>(rows.base) + first);
  }
  float values[Kind::kGroup];
#pragma unroll
  for (int k = 0; k < Kind::kGroup; ++k) {
    values[k] = column + k < rows.width ? load_number<Kind>(rows.base, first + k) : 0.0f;
  }
  return pack_group<Kind>(values);
}

// Writes a group of a row of `width` numbers that begins at number `first` of an array.
template <class Kind> CLOF_DEVICE void store_group(void* base, int64_t first, int column, int width,
                                                   const float (&values)[Kind::kGroup]) {
  if (width % Kind::kGroup == 0) {
    if (column >= width) return;
    *reinterpret_cast<uint4*>(static_cast<typename Kind::Stored*>(base) + first + column) = pack_group<Kind>(values);
    return;
  }
#pragma unroll
  for (int k = 0; k < Kind::kGroup; ++k) {
    if (column + k < width) store_number<Kind>(base, first + column + k, values[k]);
  }
}

template <class Kind> CLOF_DEVICE uint32_t operand_word(uint32_t word) {
  if constexpr (Kind::kHalf) return word;
  else return Kind::operand(float_of(word));
}

// sums += (rows in memory) W^T, for the inputs [first, first + columns) of the rows; `columns` is that of the image.
template <class Kind, int Results>
CLOF_DEVICE void add_product(Rows<Results>& sums, const RowsInMemory& rows, int first,
                             const typename Kind::Stored* weights, int columns, const Lane& lane) {
  for (int p = 0; p < columns / (4 * Kind::kGroup); ++p) {
    uint32_t a[2][4];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint4 x = load_group<Kind>(rows, h, first + Kind::kGroup * (4 * p + lane.t));
      a[0][h] = operand_word<Kind>(x.x);
      a[0][2 + h] = operand_word<Kind>(x.y);
      a[1][h] = operand_word<Kind>(x.z);
      a[1][2 + h] = operand_word<Kind>(x.w);
    }
    multiply_group<Kind>(sums, a, weights, columns, p, lane);
  }
}

}  // namespace clof::cuda
