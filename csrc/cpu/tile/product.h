// Products of a tile with a weight matrix, and the sums of outer products that are weights' gradients.
#pragma once

#include "product_bfloat16.h"

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

// A (depth, columns) matrix as panels of at most kPanel columns; the columns are padded with zeros. With `pairs`, each
// two rows are one row of pairs of bfloat16 numbers.
template <class T> struct Packed {
  T* data;
  int64_t depth, columns;
  bool pairs;

  static int64_t size(int64_t depth, int64_t columns) { return depth * padded<T>(columns); }

  // Where a number lies: panels one after the other, in each the rows.
  int64_t offset(int64_t row, int64_t column) const {
    const int64_t first = column / kPanel<T> * kPanel<T>;
    const int64_t left = padded<T>(columns) - first, width = left < kPanel<T> ? left : kPanel<T>;
    return first * depth + row * width + (column - first);
  }
};

// to[r] = init[r] + from[r] * weight for a block of rows; `init` may be `to`.
template <int Registers, class T> void product_block(const T* from, int64_t from_stride, int64_t depth, const T* weight,
                                                     const T* init, int64_t init_stride, T* to, int64_t to_stride) {
  using S = Register<T>;
  S sum[kBlockRows][Registers];
#pragma GCC unroll 8
  for (int r = 0; r < kBlockRows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < Registers; ++c) sum[r][c] = load(init + r * init_stride + c * kLanes<T>);
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    S row[Registers];
#pragma GCC unroll 8
    for (int c = 0; c < Registers; ++c) row[c] = load(weight + (k * Registers + c) * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < kBlockRows; ++r) {
      const S x(from[r * from_stride + k]);
#pragma GCC unroll 8
      for (int c = 0; c < Registers; ++c) sum[r][c] = sum[r][c] + x * row[c];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kBlockRows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < Registers; ++c) store(to + r * to_stride + c * kLanes<T>, sum[r][c]);
}

#ifdef CLOF_BFLOAT16_PAIRS

// Puts the rows of a matrix together in pairs, in its own memory: what is written lies before what is still to be read.
inline void make_pairs(const Packed<float>& weight) {
  const int64_t width = padded<float>(weight.columns), pairs = (weight.depth + 1) / 2;
  uint32_t* to = reinterpret_cast<uint32_t*>(weight.data);
  for (int64_t first = 0; first < width; first += kPanel<float>) {
    const int64_t columns = width - first < kPanel<float> ? width - first : kPanel<float>;
    const float* panel = weight.data + first * weight.depth;
    for (int64_t k = 0; k < pairs; ++k) {
      for (int64_t c = 0; c < columns; ++c) {
        const float low = panel[2 * k * columns + c];
        const float high = 2 * k + 1 < weight.depth ? panel[(2 * k + 1) * columns + c] : 0.0f;
        const uint32_t pair = pair_of(low, high);
        std::memcpy(to + first * pairs + k * columns + c, &pair, sizeof pair);
      }
    }
  }
}

// The same block of rows as product_block, for all panels.
inline void pairs_product(const float* from, int64_t from_stride, const Packed<float>& weight, const float* init,
                          int64_t init_stride, float* to, int64_t to_stride) {
  // Columns of `from` that are rounded at a time.
  constexpr int64_t kDepth = 512;
  alignas(64) uint32_t rounded[kBlockRows * kDepth / 2];
  const int64_t width = padded<float>(weight.columns), all_pairs = (weight.depth + 1) / 2;
  for (int64_t first = 0; first < weight.depth || first == 0; first += kDepth) {
    const int64_t left = weight.depth - first, depth = left < kDepth ? left : kDepth;
    round_rows(from + first, from_stride, kBlockRows, depth, rounded, kDepth / 2);
    for_panels<float>(width, [&](auto registers, int64_t column) {
      constexpr int count = decltype(registers)::value;
      const uint32_t* panel = reinterpret_cast<const uint32_t*>(weight.data) + column * all_pairs;
      pairs_block<kBlockRows, count>(rounded, kDepth / 2, (depth + 1) / 2, panel + first / 2 * count * kLanes<float>,
                                     first == 0 ? init + column : to + column, first == 0 ? init_stride : to_stride,
                                     to + column, to_stride);
    });
  }
}

#endif

// Rows [0, rows) of to = init + from * weight; rows is a multiple of kBlockRows. A stride of 0 gives every row the same
// init. `then(row)` is called when the block of rows from `row` on is complete and still in the first-level cache.
template <class T, class Then> void product(const T* from, int64_t from_stride, const Packed<T>& weight, const T* init,
                                            int64_t init_stride, T* to, int64_t to_stride, int64_t rows,
                                            const Then& then) {
  const int64_t width = padded<T>(weight.columns);
  for (int64_t r = 0; r < rows; r += kBlockRows) {
#ifdef CLOF_BFLOAT16_PAIRS
    if constexpr (sizeof(T) == sizeof(float)) {
      if (weight.pairs) {
        pairs_product(from + r * from_stride, from_stride, weight, init + r * init_stride, init_stride,
                      to + r * to_stride, to_stride);
        then(r);
        continue;
      }
    }
#endif
    for_panels<T>(width, [&](auto registers, int64_t column) {
      product_block<decltype(registers)::value>(from + r * from_stride, from_stride, weight.depth,
                                                weight.data + column * weight.depth, init + r * init_stride + column,
                                                init_stride, to + r * to_stride + column, to_stride);
    });
    then(r);
  }
}

template <class T> void product(const T* from, int64_t from_stride, const Packed<T>& weight, const T* init,
                                int64_t init_stride, T* to, int64_t to_stride, int64_t rows) {
  product(from, from_stride, weight, init, init_stride, to, to_stride, rows, [](int64_t) {});
}

// to[m] += the sum over the tile's rows of left[row][m] * right[row], for a block of m.
struct OuterBlock {
  template <int Rows, int Registers, class T> static void run(const T* left, int64_t left_stride, const T* right,
                                                              int64_t right_stride, int64_t rows, T* to,
                                                              int64_t to_stride) {
    using S = Register<T>;
    S sum[Rows][Registers];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 8
      for (int c = 0; c < Registers; ++c) sum[m][c] = load(to + m * to_stride + c * kLanes<T>);
#pragma GCC unroll 2
    for (int64_t k = 0; k < rows; ++k) {
      S row[Registers];
#pragma GCC unroll 8
      for (int c = 0; c < Registers; ++c) row[c] = load(right + k * right_stride + c * kLanes<T>);
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        const S x(left[k * left_stride + m]);
#pragma GCC unroll 8
        for (int c = 0; c < Registers; ++c) sum[m][c] = sum[m][c] + x * row[c];
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 8
      for (int c = 0; c < Registers; ++c) store(to + m * to_stride + c * kLanes<T>, sum[m][c]);
  }
};

// A panel of columns: all of m, kBlockRows at a time and the rest in one smaller block. U is what factors are made of.
template <class Block, int Registers, class U, class T>
void outer_panel(const U* left, int64_t left_stride, int64_t count, const U* right, int64_t right_stride, int64_t rows,
                 T* to, int64_t to_stride) {
  const auto block = [&](auto size, int64_t m) {
    Block::template run<decltype(size)::value, Registers>(left + m, left_stride, right, right_stride, rows,
                                                          to + m * to_stride, to_stride);
  };
  int64_t m = 0;
  for (; m + kBlockRows <= count; m += kBlockRows) block(std::integral_constant<int, kBlockRows>(), m);
  switch (count - m) {
    case 1: return block(std::integral_constant<int, 1>(), m);
    case 2: return block(std::integral_constant<int, 2>(), m);
    case 3: return block(std::integral_constant<int, 3>(), m);
    case 4: return block(std::integral_constant<int, 4>(), m);
    case 5: return block(std::integral_constant<int, 5>(), m);
  }
}

// to (count, columns) += left^T right over the tile's rows; columns are padded.
template <class Block = OuterBlock, class U, class T> void add_outer(const U* left, int64_t left_stride, int64_t count,
                                                                     const U* right, int64_t right_stride,
                                                                     int64_t columns, int64_t rows, T* to) {
  const int64_t width = padded<T>(columns);
  for_panels<T>(width, [&](auto registers, int64_t column) {
    outer_panel<Block, decltype(registers)::value>(left, left_stride, count, right + column, right_stride, rows,
                                                   to + column, width);
  });
}

}  // namespace CLOF_ISA
}  // namespace clof
