// Products of a tile with a weight matrix, and the sums of outer products that are weights' gradients.
#pragma once

#include "arena.h"
#include "product_bfloat16.h"
#include "product_tiles.h"

namespace clof {
inline namespace CLOF_ISA {

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

// Rows [0, rows) of to = init + from * weight; rows is a multiple of the products' block_rows(). A stride of 0 gives
// every row the same init. `then(row, count)` is called when `count` rows from `row` on are complete and still in the
// first-level cache.
template <class T, class Then> void product(const T* from, int64_t from_stride, const Packed<T>& weight, const T* init,
                                            int64_t init_stride, T* to, int64_t to_stride, int64_t rows,
                                            const Then& then) {
#ifdef CLOF_TILES
  if constexpr (sizeof(T) == sizeof(float)) {
    const auto on_tiles = [&](auto parts) {
      tiles_product<decltype(parts)::value>(from, from_stride, weight, init, init_stride, to, to_stride, rows, then);
    };
    if (weight.products.form == Form::tiles) return on_tiles(std::integral_constant<int, 1>());
    if (weight.products.form == Form::split_tiles) return on_tiles(std::integral_constant<int, 2>());
  }
#endif
  const int64_t width = padded<T>(weight.columns);
  for (int64_t r = 0; r < rows; r += kBlockRows) {
#ifdef CLOF_BFLOAT16_PAIRS
    if constexpr (sizeof(T) == sizeof(float)) {
      if (weight.products.form == Form::pairs) {
        pairs_product(from + r * from_stride, from_stride, weight, init + r * init_stride, init_stride,
                      to + r * to_stride, to_stride);
        then(r, kBlockRows);
        continue;
      }
    }
#endif
    for_panels<T>(width, [&](auto registers, int64_t column) {
      product_block<decltype(registers)::value>(from + r * from_stride, from_stride, weight.depth,
                                                weight.data + column * weight.depth, init + r * init_stride + column,
                                                init_stride, to + r * to_stride + column, to_stride);
    });
    then(r, kBlockRows);
  }
}

template <class T> void product(const T* from, int64_t from_stride, const Packed<T>& weight, const T* init,
                                int64_t init_stride, T* to, int64_t to_stride, int64_t rows) {
  product(from, from_stride, weight, init, init_stride, to, to_stride, rows, [](int64_t, int64_t) {});
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

// to (count, columns) += left^T right over the tile's rows, in blocks.
template <class Block, class U, class T> void add_outer_of(const U* left, int64_t left_stride, int64_t count,
                                                           const U* right, int64_t right_stride, int64_t columns,
                                                           int64_t rows, T* to) {
  const int64_t width = padded<T>(columns);
  for_panels<T>(width, [&](auto registers, int64_t column) {
    outer_panel<Block, decltype(registers)::value>(left, left_stride, count, right + column, right_stride, rows,
                                                   to + column, width);
  });
}

// Memory for the factors of a sum of outer products, in the form in which they are multiplied.
struct OuterRoom {
  uint32_t *left, *right;

  OuterRoom() = default;
  // For up to `rows` rows.
  OuterRoom(const Products& products, int64_t rows, int64_t left_width, int64_t right_width, Arena& arena) {
    const int64_t pairs = products.form == Form::plain ? 0 : rows / 2 * products.parts();
    left = arena.take<uint32_t>(pairs * left_width);
    right = arena.take<uint32_t>(pairs * right_width);
  }
};

// to (count, columns) += left^T right over the tile's rows; columns are padded, and rows of `to` as sum_rows() says.
template <class T> void add_outer(const Products& products, const T* left, int64_t left_stride, int64_t count,
                                  const T* right, int64_t right_stride, int64_t columns, int64_t rows, T* to,
                                  const OuterRoom& room) {
#ifdef CLOF_TILES
  if constexpr (sizeof(T) == sizeof(float)) {
    const auto on_tiles = [&](auto parts) {
      add_tiles_outer<decltype(parts)::value>(products, left, left_stride, count, right, right_stride, columns, rows,
                                              to, room.left, room.right);
    };
    if (products.form == Form::tiles) return on_tiles(std::integral_constant<int, 1>());
    if (products.form == Form::split_tiles) return on_tiles(std::integral_constant<int, 2>());
  }
#endif
#ifdef CLOF_BFLOAT16_PAIRS
  if constexpr (sizeof(T) == sizeof(float)) {
    if (products.form == Form::pairs) {
      pair_rows(left, left_stride, rows, left_stride, room.left);
      pair_rows(right, right_stride, rows, right_stride, room.right);
      return add_outer_of<PairsOuterBlock>(room.left, left_stride, count, room.right, right_stride, columns,
                                           (rows + 1) / 2, to);
    }
  }
#endif
  add_outer_of<OuterBlock>(left, left_stride, count, right, right_stride, columns, rows, to);
}

// Brings a packed weight into the form that its products read.
template <class T> void finish_packing(const Packed<T>& weight) {
  if constexpr (sizeof(T) == sizeof(float)) {
#ifdef CLOF_BFLOAT16_PAIRS
    if (weight.products.form == Form::pairs) make_pairs(weight);
#endif
#ifdef CLOF_TILES
    if (weight.products.form == Form::tiles) make_tiles<1>(weight);
    if (weight.products.form == Form::split_tiles) make_tiles<2>(weight);
#endif
  }
}

}  // namespace CLOF_ISA
}  // namespace clof
