// Products of 16 rows with a matrix of weights, of which a row holds the weights of one result.
//
// Weights lie in an image (image.h): rows of Kind::Stored, a multiple of 128 bytes long. A lane reads 16 bytes of the
// row of one result: operands of two steps along the inputs. Every second row has the halves of each 128 bytes
// exchanged, so that the eight lanes that read at one time find all banks of shared memory.
#pragma once

#include "rows.cuh"

namespace clof::cuda {

template <class Kind> CLOF_DEVICE int weight_column(int row, int column) { return column ^ ((row & 1) * kUnit<Kind>); }

// What a lane reads of a matrix with rows of Columns numbers: addresses are constants beyond two pointers.
template <class Kind, int Columns> class WeightReader {
 public:
  using Stored = typename Kind::Stored;

  CLOF_DEVICE WeightReader(const Stored* weights, const Lane& lane)
      : WeightReader(weights, lane, feature<Kind>(0, lane.g / 2, lane.g % 2)) {}

  // `row`: the result of block 0 that is this lane's.
  CLOF_DEVICE WeightReader(const Stored* weights, const Lane& lane, int row) {
    const int exchanged = (row & 1) * kUnit<Kind>;
    const Stored* first = weights + row * Columns + Kind::kGroup * lane.t;
    even_ = first + exchanged;
    odd_ = first - exchanged;
  }

  // For the results of block n: operands of steps 2 p and 2 p + 1.
  CLOF_DEVICE uint4 operator()(int n, int p) const {
    const Stored* from = p % 2 ? odd_ : even_;
    return *reinterpret_cast<const uint4*>(from + feature<Kind>(n, 0, 0) * Columns + p * kUnit<Kind>);
  }

  // The same from column `first` on, a multiple of 128 bytes.
  CLOF_DEVICE WeightReader at_pair(int first) const {
    WeightReader moved = *this;
    moved.even_ += first;
    moved.odd_ += first;
    return moved;
  }

 private:
  const Stored* even_;
  const Stored* odd_;
};

// Register k of block n of an operand: of 16-bit numbers the pair of row g + 8 k, else as in Rows.
template <class Kind> constexpr int kOperandWords = Kind::kHalf ? 2 : 4;

// Rows as operands: rounded once for all products that take them.
template <class Kind, int Width> struct OperandRows {
  static constexpr int kWidth = Width;

  uint32_t at[Width / 8][kOperandWords<Kind>];

  CLOF_DEVICE static OperandRows of(const Rows<Width>& rows);
};

// A register of rows that are rounded before or now.
template <class Kind, int Width> CLOF_DEVICE uint32_t operand_at(const OperandRows<Kind, Width>& rows, int n, int k) {
  return rows.at[n][k];
}
template <class Kind, int Width> CLOF_DEVICE uint32_t operand_at(const Rows<Width>& rows, int n, int k) {
  if constexpr (Kind::kHalf) return Kind::pack(rows.at[n][2 * k], rows.at[n][2 * k + 1]);
  else return Kind::operand(rows.at[n][k]);
}

template <class Kind, int Width>
CLOF_DEVICE OperandRows<Kind, Width> OperandRows<Kind, Width>::of(const Rows<Width>& rows) {
  OperandRows taken;
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
    for (int k = 0; k < kOperandWords<Kind>; ++k) taken.at[n][k] = operand_at<Kind>(rows, n, k);
  }
  return taken;
}

// Operand registers of steps 2 p and 2 p + 1 along the inputs.
template <class Kind, class Operand> CLOF_DEVICE void operands(const Operand& rows, int p, uint32_t (&a)[2][4]) {
#pragma unroll
  for (int s = 0; s < 2; ++s) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if constexpr (Kind::kHalf) a[s][k] = operand_at<Kind>(rows, 4 * p + 2 * s + k / 2, k % 2);
      else a[s][k] = operand_at<Kind>(rows, 2 * p + s, k / 2 + 2 * (k % 2));
    }
  }
}

// sums += (operands of inputs 4 G p ... 4 G (p + 1)) times their weights, for several tiles of rows.
template <class Kind, int Tiles, int Results, class Reader>
CLOF_DEVICE void multiply_group(Rows<Results> (&sums)[Tiles], const uint32_t (&a)[Tiles][2][4], const Reader& weights,
                                int p) {
#pragma unroll
  for (int n = 0; n < Results / 8; ++n) {
    const uint4 b = weights(n, p);
#pragma unroll
    for (int k = 0; k < Tiles; ++k) {
      Kind::multiply(sums[k].at[n], a[k][0], b.x, b.y, sums[k].at[n]);
      Kind::multiply(sums[k].at[n], a[k][1], b.z, b.w, sums[k].at[n]);
    }
  }
}

// sums = start + rows W^T, with start(n) the numbers of block n that all rows begin with.
template <class Kind, int Tiles, int Results, class Operand, class Start>
CLOF_DEVICE void product(Rows<Results> (&sums)[Tiles], const Operand (&rows)[Tiles],
                         const typename Kind::Stored* weights, const Lane& lane, const Start& start) {
  constexpr int Inputs = Operand::kWidth;
  const WeightReader<Kind, Inputs> reader(weights, lane);
#pragma unroll
  for (int p = 0; p < Inputs / kUnit<Kind>; ++p) {
    uint32_t a[Tiles][2][4];
#pragma unroll
    for (int k = 0; k < Tiles; ++k) operands<Kind>(rows[k], p, a[k]);
    if (p == 0) {
#pragma unroll
      for (int n = 0; n < Results / 8; ++n) {
        const uint4 b = reader(n, p);
        const Block from = start(n);
#pragma unroll
        for (int k = 0; k < Tiles; ++k) {
          Kind::multiply(sums[k].at[n], a[k][0], b.x, b.y, from.at);
          Kind::multiply(sums[k].at[n], a[k][1], b.z, b.w, sums[k].at[n]);
        }
      }
    } else {
      multiply_group<Kind>(sums, a, reader, p);
    }
  }
}

// rows W^T for up to eight results, in their natural order: a row of weights for each.
template <class Kind, int Tiles, class Operand>
CLOF_DEVICE void few_results(Rows<8> (&sums)[Tiles], const Operand (&rows)[Tiles], const typename Kind::Stored* weights,
                             const Lane& lane) {
  constexpr int Inputs = Operand::kWidth;
  const WeightReader<Kind, Inputs> reader(weights, lane, lane.g);
  // Two sums, since every product waits for the one before.
  Rows<8> second[Tiles];
#pragma unroll
  for (int k = 0; k < Tiles; ++k) {
    sums[k].fill(0.0f);
    second[k].fill(0.0f);
  }
#pragma unroll
  for (int p = 0; p < Inputs / kUnit<Kind>; ++p) {
    const uint4 b = reader(0, p);
#pragma unroll
    for (int k = 0; k < Tiles; ++k) {
      uint32_t a[2][4];
      operands<Kind>(rows[k], p, a);
      Kind::multiply(sums[k].at[0], a[0], b.x, b.y, sums[k].at[0]);
      Kind::multiply(second[k].at[0], a[1], b.z, b.w, second[k].at[0]);
    }
  }
#pragma unroll
  for (int k = 0; k < Tiles; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[k].at[0][i] += second[k].at[0][i];
  }
}

// (up to four numbers of each row) W^T, where lane t has number t of rows g and g + 8. Of every kGroup columns of W two
// are the same, those of a number: it is rounded in two parts.
template <class Kind, int Results> CLOF_DEVICE void few_inputs(Rows<Results>& rows, const float (&own)[2],
                                                               const typename Kind::Stored* weights, const Lane& lane) {
  uint32_t a[4] = {};
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if constexpr (Kind::kHalf) {
      a[h] = Kind::pack(own[h], own[h] - Kind::low(Kind::pack(own[h], 0.0f)));
    } else {
      a[h] = Kind::operand(own[h]);
      a[2 + h] = Kind::operand(own[h] - float_of(a[h]));
    }
  }
  // Rows are as WeightReader takes them, with one unit each.
  const typename Kind::Stored* from =
      weights + feature<Kind>(0, lane.g / 2, lane.g % 2) * kUnit<Kind> + Kind::kGroup * lane.t;
#pragma unroll
  for (int n = 0; n < Results / 8; ++n) {
    const auto* words = reinterpret_cast<const uint2*>(from + feature<Kind>(n, 0, 0) * kUnit<Kind>);
    Kind::multiply(rows.at[n], a, words->x, Kind::kHalf ? 0 : words->y, NoStart()(n).at);
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
template <class Kind>
CLOF_DEVICE void store_group(void* base, int64_t first, int column, int width, const float (&values)[Kind::kGroup]) {
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

template <class Kind> CLOF_DEVICE uint4 operand_words(uint4 x) {
  return {operand_word<Kind>(x.x), operand_word<Kind>(x.y), operand_word<Kind>(x.z), operand_word<Kind>(x.w)};
}

// Two units of a lane's rows in memory, loaded before they are needed.
template <class Kind, int Tiles> struct LoadedUnits {
  uint4 words[2][Tiles][2];

  CLOF_DEVICE LoadedUnits(const RowsInMemory (&rows)[Tiles], int first, const Lane& lane) {
    const bool in_groups = rows[0].width % Kind::kGroup == 0;
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const int column = first + p * kUnit<Kind> + Kind::kGroup * lane.t;
#pragma unroll
      for (int k = 0; k < Tiles; ++k) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const auto* row = static_cast<const typename Kind::Stored*>(rows[k].base) + rows[k].first[h];
          uint4 x = {0, 0, 0, 0};
          if (in_groups && column < rows[k].width) x = *reinterpret_cast<const uint4*>(row + column);
          words[p][k][h] = x;
        }
      }
    }
    if (in_groups) return;
#pragma unroll
    for (int p = 0; p < 2; ++p) {
#pragma unroll
      for (int k = 0; k < Tiles; ++k) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          words[p][k][h] = load_group<Kind>(rows[k], h, first + p * kUnit<Kind> + Kind::kGroup * lane.t);
        }
      }
    }
  }

  CLOF_DEVICE void operands(int p, uint32_t (&a)[Tiles][2][4]) const {
#pragma unroll
    for (int k = 0; k < Tiles; ++k) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint4 x = words[p][k][h];
        a[k][0][h] = operand_word<Kind>(x.x);
        a[k][0][2 + h] = operand_word<Kind>(x.y);
        a[k][1][h] = operand_word<Kind>(x.z);
        a[k][1][2 + h] = operand_word<Kind>(x.w);
      }
    }
  }
};

// sums += (two units of rows in memory, of which `width` numbers are there) W^T.
template <class Kind, int Columns, int Tiles, int Results>
CLOF_DEVICE void add_units(Rows<Results> (&sums)[Tiles], const LoadedUnits<Kind, Tiles>& units, int width,
                           const WeightReader<Kind, Columns>& weights) {
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    if (p * kUnit<Kind> >= width) break;
    uint32_t a[Tiles][2][4];
    units.operands(p, a);
    multiply_group<Kind>(sums, a, weights, p);
  }
}

// sums += (rows in memory) W^T, for Columns inputs from `first` on, or as many as there are.
template <class Kind, int Columns, int Tiles, int Results>
CLOF_DEVICE void add_product(Rows<Results> (&sums)[Tiles], const RowsInMemory (&rows)[Tiles], int first,
                             const typename Kind::Stored* weights, const Lane& lane) {
  const WeightReader<Kind, Columns> reader(weights, lane);
#pragma unroll 1
  for (int pair = 0; pair < Columns && first + pair < rows[0].width; pair += 2 * kUnit<Kind>) {
    const LoadedUnits<Kind, Tiles> units(rows, first + pair, lane);
    add_units<Kind, Columns>(sums, units, rows[0].width - first - pair, reader.at_pair(pair));
  }
}

}  // namespace clof::cuda
