// In which form products take their factors, and weights in the order in which they are read.
#pragma once

#include "../../functor/arguments.h"
#include "../kernels/linear.h"
#include "register.h"

namespace clof {
inline namespace CLOF_ISA {

// A block of the result lives in kBlockRows x kBlockRegisters registers while the inner dimension is run through; with
// the operands that is just below the number of registers of the instruction set.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kBlockRegisters = 4;
#else
constexpr int kBlockRegisters = 2;
#endif
constexpr int kBlockRows = 6;

// For products on AMX a factor is cut into pieces that a tile register holds. Those of a stripe of 16 rows (columns of
// a right factor) follow one another in the order of the inner dimension, 32 numbers of it each, the parts of a piece
// side by side; then comes the next stripe. Two stripes of rows are multiplied at a time.
constexpr int64_t kPieceWidth = 16;
constexpr int64_t kPieceDepth = 32;
constexpr int64_t kPieceNumbers = kPieceWidth * kPieceDepth;
constexpr int kTilesBlockRows = 2 * kPieceWidth;

inline int64_t stripes(int64_t count) { return (count + kPieceWidth - 1) / kPieceWidth; }
inline int64_t pieces(int64_t depth) { return (depth + kPieceDepth - 1) / kPieceDepth; }

template <class T> constexpr int64_t kPanel = kBlockRegisters * kLanes<T>;

// Calls body(registers, column) for each panel of `width` columns, the number of registers as a type.
template <class T, class Body> CLOF_HD void for_panels(int64_t width, const Body& body) {
  for (int64_t column = 0; column < width; column += kPanel<T>) {
    switch ((width - column) / kLanes<T>) {
      case 1: body(std::integral_constant<int, 1>(), column); break;
#if defined(__AVX512F__) || defined(__aarch64__)
      case 2: body(std::integral_constant<int, 2>(), column); break;
      case 3: body(std::integral_constant<int, 3>(), column); break;
#endif
      default: body(std::integral_constant<int, kBlockRegisters>(), column);
    }
  }
}

// plain: numbers as they are computed. pairs: bfloat16, two neighbours of the inner dimension in one. tiles: bfloat16
// in the order of AMX's registers. split_tiles: the same with every number as a sum of two, of which three products
// come close to float32: the smaller parts' own product is left out.
enum class Form : int { plain, pairs, tiles, split_tiles };

struct Products {
  Form form;
  bool emulated;  // AMX in software

  bool on_tiles() const { return form == Form::tiles || form == Form::split_tiles; }
  // bfloat16 numbers that stand for one.
  int parts() const { return form == Form::split_tiles ? 2 : 1; }
  // Rows of a tile of edges that are multiplied at a time.
  int block_rows() const { return on_tiles() ? kTilesBlockRows : kBlockRows; }
  // Rows of the blocks that hold `count` rows.
  int whole_blocks(int64_t count) const { return int(count + block_rows() - 1) / block_rows() * block_rows(); }
  // Rows that sums of outer products write, for `count` of them.
  int64_t sum_rows(int64_t count) const { return on_tiles() ? stripes(count) * kPieceWidth : count; }
  // bfloat16 numbers of a factor with `count` rows or columns.
  int64_t factor_size(int64_t count, int64_t depth) const {
    return on_tiles() ? stripes(count) * pieces(depth) * parts() * kPieceNumbers : 0;
  }
};

// Of the arguments of an operator with Linears.
template <class Arguments> Form form_of(const Arguments& a) {
  const bool rounds =
      a.storage == Storage::bfloat16 || (a.storage == Storage::float32 && a.precision == MatmulPrecision::medium);
  const bool splits = a.storage == Storage::float32 && a.precision == MatmulPrecision::high;
  switch (a.unit) {
    case BFloat16Unit::none: return Form::plain;
    case BFloat16Unit::pairs: return rounds ? Form::pairs : Form::plain;
    case BFloat16Unit::tiles:
    case BFloat16Unit::emulated_tiles: return rounds ? Form::tiles : splits ? Form::split_tiles : Form::plain;
  }
  return Form::plain;
}

template <class Arguments> Products products_of(const Arguments& a) {
  return {form_of(a), a.unit == BFloat16Unit::emulated_tiles};
}

// A (depth, columns) matrix as panels of at most kPanel columns; the columns are padded with zeros. For products of
// pairs, each two rows become one; those on tiles read a copy in another order.
template <class T> struct Packed {
  T* data;
  int64_t depth, columns;
  Products products;
  BFloat16* tiles;

  static int64_t size(int64_t depth, int64_t columns) { return depth * padded<T>(columns); }

  // Where a number lies: panels one after the other, in each the rows.
  int64_t offset(int64_t row, int64_t column) const {
    const int64_t first = column / kPanel<T> * kPanel<T>;
    const int64_t left = padded<T>(columns) - first, width = left < kPanel<T> ? left : kPanel<T>;
    return first * depth + row * width + (column - first);
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
