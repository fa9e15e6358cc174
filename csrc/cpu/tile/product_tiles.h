// Products on AMX's tile registers: numbers are rounded to bfloat16, or split in two such, where they enter a product;
// sums stay in float32.
#pragma once

#include "amx.h"
#include "packed.h"
#include "transpose.h"

#ifdef CLOF_TILES

namespace clof {
inline namespace CLOF_ISA {

// The stripes of a factor from one on.
struct Factor {
  const BFloat16* data;
  int64_t stride;  // between stripes

  Factor from(int64_t stripe) const { return {data + stripe * stride, stride}; }
};

// A block of one or two stripes of both factors: to = init + left right.
struct TilesBlock {
  Factor left, right;
  int64_t depth;  // in pieces
  const float* init;
  int64_t init_stride;
  float* to;
  int64_t to_stride;
};

// The left factor's rows and the right factor's columns in stripes, 1 or 2; eight registers hold no more.
template <class Unit, int Parts, int Rows, int Columns> struct TilesKernel {
  template <int Number> using Tile = typename Unit::template Tile<Number>;
  static constexpr int64_t piece = Parts * kPieceNumbers;

  Tile<0> upper_left;
  Tile<1> upper_right;
  Tile<2> lower_left;
  Tile<3> lower_right;
  Tile<4> upper;
  Tile<5> lower;
  Tile<6> left;
  Tile<7> right;

  // A copy of the block: its numbers stay in registers while memory changes.
  CLOF_HD void run(const TilesBlock block) {
    for_sums(block.init, block.init_stride, [](auto& sum, const float* at, int64_t bytes) { sum.load(at, bytes); });
#pragma GCC unroll 2
    for (int64_t k = 0; k < block.depth; ++k) {
      const BFloat16 *rows = block.left.data + k * piece, *columns = block.right.data + k * piece;
      load_columns(columns, block.right.stride);
      add_products(rows, block.left.stride);
      if constexpr (Parts == 2) {
        add_products(rows + kPieceNumbers, block.left.stride);
        load_columns(columns + kPieceNumbers, block.right.stride);
        add_products(rows, block.left.stride);
      }
    }
    for_sums(block.to, block.to_stride, [](auto& sum, float* at, int64_t bytes) { sum.store(at, bytes); });
  }

  template <class Float, class Use> CLOF_HD void for_sums(Float* at, int64_t stride, const Use& use) {
    const int64_t bytes = stride * int64_t(sizeof(float));
    use(upper_left, at, bytes);
    if constexpr (Columns == 2) use(upper_right, at + kPieceWidth, bytes);
    if constexpr (Rows == 2) use(lower_left, at + kPieceWidth * stride, bytes);
    if constexpr (Rows == 2 && Columns == 2) use(lower_right, at + kPieceWidth * stride + kPieceWidth, bytes);
  }

  CLOF_HD void load_columns(const BFloat16* columns, int64_t stride) {
    left.load(columns, kTileRegisterBytes);
    if constexpr (Columns == 2) right.load(columns + stride, kTileRegisterBytes);
  }

  CLOF_HD void add_products(const BFloat16* rows, int64_t stride) {
    upper.load(rows, kTileRegisterBytes);
    upper_left.add_product(upper, left);
    if constexpr (Columns == 2) upper_right.add_product(upper, right);
    if constexpr (Rows == 2) {
      lower.load(rows + stride, kTileRegisterBytes);
      lower_left.add_product(lower, left);
      if constexpr (Columns == 2) lower_right.add_product(lower, right);
    }
  }
};

template <class Unit, int Parts>
__attribute__((noinline)) void multiply_block(int64_t rows, int64_t columns, const TilesBlock& block) {
  if (rows > 1 && columns > 1) return TilesKernel<Unit, Parts, 2, 2>().run(block);
  if (rows > 1) return TilesKernel<Unit, Parts, 2, 1>().run(block);
  if (columns > 1) return TilesKernel<Unit, Parts, 1, 2>().run(block);
  TilesKernel<Unit, Parts, 1, 1>().run(block);
}

// `rows` and `columns` are the stripes that are left; at most two of each are taken.
inline void multiply_block(const Products& products, int64_t rows, int64_t columns, const TilesBlock& block) {
  const bool split = products.parts() == 2;
  if (products.emulated) {
    split ? multiply_block<EmulatedAmx, 2>(rows, columns, block) : multiply_block<EmulatedAmx, 1>(rows, columns, block);
  } else {
    split ? multiply_block<Amx, 2>(rows, columns, block) : multiply_block<Amx, 1>(rows, columns, block);
  }
}

// This thread's tile registers, for as long as products may need them.
class TileRegisters {
 public:
  explicit TileRegisters(const Products& products) : products_(products) {
    if (!products_.on_tiles()) return;
    products_.emulated ? EmulatedAmx::configure() : Amx::configure();
  }
  ~TileRegisters() {
    if (!products_.on_tiles()) return;
    products_.emulated ? EmulatedAmx::release() : Amx::release();
  }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;

 private:
  Products products_;
};

// The nearest number of 8 significant bits, which bfloat16 holds. A NaN stays one in the rest, if not here.
CLOF_HD __m512 upper_part(__m512 x) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper_bits = _mm512_set1_epi32(int(0xffff0000));
  return (__m512)_mm512_and_si512(_mm512_add_epi32((__m512i)x, half), upper_bits);
}

// Writes the parts of two registers, as 32 numbers of a row or in turn: column by column one of each.
template <int Parts, bool InTurn>
__attribute__((target("avx512bf16"))) inline void store_parts(__m512 first, __m512 second, BFloat16* to) {
  const __m512i turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                        5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
#pragma GCC unroll 2
  for (int part = 0; part < Parts; ++part) {
    // What is left at last is rounded.
    const bool last = part + 1 == Parts;
    const __m512 x = last ? first : upper_part(first), y = last ? second : upper_part(second);
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(y, x);
    _mm512_storeu_si512(to + part * kPieceNumbers, InTurn ? _mm512_permutexvar_epi16(turn, both) : both);
    first = _mm512_sub_ps(first, x);
    second = _mm512_sub_ps(second, y);
  }
}

// The lanes that hold the first `count` of some numbers.
inline __mmask16 first_lanes(int64_t count) {
  return count >= 16 ? __mmask16(0xffff) : count > 0 ? __mmask16((1u << count) - 1) : __mmask16(0);
}

// Rows [first, last) of a block of rows of `columns` numbers to a left factor of `depth` pieces; the last may be partly
// or wholly behind the columns, and is filled with zeros.
template <int Parts>
__attribute__((target("avx512bf16"))) void rows_to_pieces(const float* from, int64_t stride, int64_t columns,
                                                          int64_t first, int64_t last, int64_t depth, BFloat16* to) {
  const int64_t full = columns / kPieceDepth, whole = full < depth ? full : depth, left = columns - whole * kPieceDepth;
  const __mmask16 low = first_lanes(left), high = first_lanes(left - kPieceDepth / 2);
  for (int64_t r = first; r < last; ++r) {
    const float* at = from + r * stride;
    BFloat16* piece = to + r / kPieceWidth * depth * Parts * kPieceNumbers + r % kPieceWidth * kPieceDepth;
    const BFloat16* const end = piece + whole * Parts * kPieceNumbers;
    for (; piece != end; piece += Parts * kPieceNumbers, at += kPieceDepth) {
      store_parts<Parts, false>(_mm512_loadu_ps(at), _mm512_loadu_ps(at + kPieceDepth / 2), piece);
    }
    if (whole == depth) continue;
    store_parts<Parts, false>(_mm512_maskz_loadu_ps(low, at), _mm512_maskz_loadu_ps(high, at + kPieceDepth / 2), piece);
  }
}

// Up to 32 rows of 16 columns to a piece of a right factor, whose inner dimension the rows are.
template <int Parts, class RowAt>
__attribute__((target("avx512bf16"))) void columns_to_piece(const RowAt& row_at, int64_t rows, BFloat16* to) {
  for (int64_t r = 0; r < kPieceDepth; r += 2) {
    const __m512 first = r < rows ? _mm512_loadu_ps(row_at(r)) : _mm512_setzero_ps();
    const __m512 second = r + 1 < rows ? _mm512_loadu_ps(row_at(r + 1)) : _mm512_setzero_ps();
    store_parts<Parts, true>(first, second, to + r * kPieceWidth);
  }
}

// A piece's pairs of numbers are moved as one number of 4 bytes each.
inline void transpose_piece(const BFloat16* from, BFloat16* to) {
  transpose_square(reinterpret_cast<const float*>(from), kPieceWidth, reinterpret_cast<float*>(to), kPieceWidth);
}

// The columns of a matrix as the stripes of a right factor, or `transposed` of a left one.
template <int Parts> void columns_to_stripes(const float* from, int64_t stride, int64_t rows, int64_t columns,
                                             bool transposed, BFloat16* to) {
  alignas(64) BFloat16 upright[Parts * kPieceNumbers];
  for (int64_t s = 0; s < stripes(columns); ++s) {
    for (int64_t k = 0; k < pieces(rows); ++k, to += Parts * kPieceNumbers) {
      const float* at = from + k * kPieceDepth * stride + s * kPieceWidth;
      const auto row_at = [=](int64_t row) { return at + row * stride; };
      columns_to_piece<Parts>(row_at, rows - k * kPieceDepth, transposed ? upright : to);
      if (!transposed) continue;
      for (int part = 0; part < Parts; ++part)
        transpose_piece(upright + part * kPieceNumbers, to + part * kPieceNumbers);
    }
  }
}

// Writes the copy of a weight that products on tiles read.
template <int Parts> void make_tiles(const Packed<float>& weight) {
  BFloat16* to = weight.tiles;
  for (int64_t s = 0; s < stripes(weight.columns); ++s) {
    for (int64_t k = 0; k < pieces(weight.depth); ++k, to += Parts * kPieceNumbers) {
      const int64_t first = k * kPieceDepth;
      const auto row_at = [&](int64_t row) { return weight.data + weight.offset(first + row, s * kPieceWidth); };
      columns_to_piece<Parts>(row_at, weight.depth - first, to);
    }
  }
}

// See product() of product.h. While the tile registers multiply a block of rows, the next one's are rounded and `then`
// is called for the one before, a share for each pair of stripes.
template <int Parts, class Then> void tiles_product(const float* from, int64_t from_stride, const Packed<float>& weight,
                                                    const float* init, int64_t init_stride, float* to,
                                                    int64_t to_stride, int64_t rows, const Then& then) {
  // Pieces of the inner dimension that are taken at a time.
  constexpr int64_t most = 8;
  constexpr int64_t block = kTilesBlockRows;
  alignas(64) BFloat16 left[2][block / kPieceWidth * most * Parts * kPieceNumbers];
  const int64_t all = pieces(weight.depth), columns = stripes(weight.columns);
  for (int64_t first = 0; first == 0 || first < all; first += most) {
    const int64_t depth = all - first < most ? all - first : most, column = first * kPieceDepth;
    const bool complete = first + depth == all;
    const Factor right{weight.tiles + first * Parts * kPieceNumbers, all * Parts * kPieceNumbers};
    const auto round = [&](int64_t r, int64_t begin, int64_t end) {
      if (r >= rows) return;
      rows_to_pieces<Parts>(from + r * from_stride + column, from_stride, weight.depth - column, begin, end, depth,
                            left[r / block % 2]);
    };
    round(0, 0, block);
    for (int64_t r = 0; r < rows; r += block) {
      const Factor rounded{left[r / block % 2], depth * Parts * kPieceNumbers};
      const float* start = first == 0 ? init + r * init_stride : to + r * to_stride;
      for (int64_t s = 0; s < columns; s += 2) {
        const int64_t at = s * kPieceWidth;
        multiply_block(weight.products, 2, columns - s,
                       {rounded, right.from(s), depth, start + at, first == 0 ? init_stride : to_stride,
                        to + r * to_stride + at, to_stride});
        const int64_t pairs = (columns + 1) / 2, begin = block * (s / 2) / pairs, end = block * (s / 2 + 1) / pairs;
        round(r + block, begin, end);
        if (complete && r > 0) then(r - block + begin, end - begin);
      }
    }
    if (complete && rows > 0) then(rows - block, block);
  }
}

// See add_outer() of product.h; `to` has room for whole stripes of rows.
template <int Parts> void add_tiles_outer(const Products& products, const float* left, int64_t left_stride,
                                          int64_t count, const float* right, int64_t right_stride, int64_t columns,
                                          int64_t rows, float* to, uint32_t* left_room, uint32_t* right_room) {
  BFloat16 *left_pieces = reinterpret_cast<BFloat16*>(left_room),
           *right_pieces = reinterpret_cast<BFloat16*>(right_room);
  columns_to_stripes<Parts>(left, left_stride, rows, count, true, left_pieces);
  columns_to_stripes<Parts>(right, right_stride, rows, columns, false, right_pieces);
  const int64_t depth = pieces(rows), stride = depth * Parts * kPieceNumbers, width = padded<float>(columns);
  const Factor all_rows{left_pieces, stride}, all_columns{right_pieces, stride};
  for (int64_t m = 0; m < stripes(count); m += 2) {
    for (int64_t n = 0; n < stripes(columns); n += 2) {
      float* at = to + m * kPieceWidth * width + n * kPieceWidth;
      multiply_block(products, stripes(count) - m, stripes(columns) - n,
                     {all_rows.from(m), all_columns.from(n), depth, at, width, at, width});
    }
  }
}

}  // namespace CLOF_ISA
}  // namespace clof

#else

namespace clof {
inline namespace CLOF_ISA {

struct TileRegisters {
  explicit TileRegisters(const Products&) {}
};

}  // namespace CLOF_ISA
}  // namespace clof

#endif
