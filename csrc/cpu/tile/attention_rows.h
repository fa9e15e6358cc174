// The small products of attention around one atom, and rows in which the heads lie side by side.
#pragma once

#include "exponential.h"
#include "product.h"
#include "rows.h"

namespace clof {
inline namespace CLOF_ISA {

// Calls body(size, first) for pieces of [0, count): of `Most`, a power of two, and of its halves for what is left.
template <int Most, class Body> void for_pieces(int64_t count, const Body& body, int64_t first = 0) {
  for (; first + Most <= count; first += Most) body(std::integral_constant<int, Most>(), first);
  if constexpr (Most > 1) for_pieces<Most / 2>(count, body, first);
}

// to[r * to_stride + h] += <rows[r], heads[h]> for rows and heads of `width` numbers.
template <int Rows, int Heads, class T>
void add_dots_block(const T* rows, const T* heads, int64_t width, T* to, int64_t to_stride) {
  using S = Register<T>;
  S sum[Rows][Heads];
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int h = 0; h < Heads; ++h) sum[r][h] = S(T(0));
  for_registers<T>(width, [&](int64_t c) {
    S x[Rows];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) x[r] = load(rows + r * width + c);
#pragma GCC unroll 4
    for (int h = 0; h < Heads; ++h) {
      const S y = load(heads + h * width + c);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) sum[r][h] = sum[r][h] + x[r] * y;
    }
  });
  for (int r = 0; r < Rows; ++r)
    for (int h = 0; h < Heads; ++h) to[r * to_stride + h] += sum_of_lanes(sum[r][h]);
}

template <class T> void add_dots(const T* rows, int64_t count, const T* heads, int64_t num_heads, int64_t width, T* to,
                                 int64_t to_stride) {
  for_pieces<kBlockRegisters>(count, [&](auto n, int64_t r) {
    for_pieces<4>(num_heads, [&](auto m, int64_t h) {
      add_dots_block<decltype(n)::value, decltype(m)::value>(rows + r * width, heads + h * width, width,
                                                             to + r * to_stride + h, to_stride);
    });
  });
}

// to[r] += the sum over heads of weights[r][h] heads[h], for a block of rows and of columns.
template <int Rows, int Registers, class T>
void add_mixed_block(const T* weights, int64_t stride, const T* heads, int64_t num_heads, int64_t width, T* to) {
  using S = Register<T>;
  S sum[Rows][Registers];
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < Registers; ++c) sum[r][c] = load(to + r * width + c * kLanes<T>);
  for (int64_t h = 0; h < num_heads; ++h) {
    S row[Registers];
#pragma GCC unroll 4
    for (int c = 0; c < Registers; ++c) row[c] = load(heads + h * width + c * kLanes<T>);
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      const S x(weights[r * stride + h]);
#pragma GCC unroll 4
      for (int c = 0; c < Registers; ++c) sum[r][c] = sum[r][c] + x * row[c];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < Registers; ++c) store(to + r * width + c * kLanes<T>, sum[r][c]);
}

template <class T> void add_mixed(const T* weights, int64_t stride, int64_t count, const T* heads, int64_t num_heads,
                                  int64_t width, T* to) {
  for_pieces<4>(count, [&](auto n, int64_t r) {
    for_panels<T>(width, [&](auto registers, int64_t column) {
      add_mixed_block<decltype(n)::value, decltype(registers)::value>(weights + r * stride, stride, heads + column,
                                                                      num_heads, width, to + r * width + column);
    });
  });
}

// A node's K D features with the heads side by side: feature d of head k at d * side + k, K padded to `side`, a power
// of two. Numbers of the heads, in rows of `pattern`, are repeated until they fill a register, so that they meet
// features register by register: position c of a row belongs to position c modulo `pattern`, a power of two.
template <class T> struct SideBySide {
  int64_t heads, head_width, side = 1, pattern, row;

  SideBySide(int64_t heads, int64_t head_width) : heads(heads), head_width(head_width) {
    while (side < heads) side *= 2;
    pattern = side < kLanes<T> ? kLanes<T> : side;
    row = padded<T>(head_width * side);
  }

  // From rows with head after head, `pitch` apart.
  void take(const T* from, int64_t pitch, T factor, T* to) const {
    if (row != heads * head_width) fill(to, row, T(0));
    for (int64_t k = 0; k < heads; ++k)
      for (int64_t d = 0; d < head_width; ++d) to[d * side + k] = factor * from[k * pitch + d];
  }

  void give(const T* from, int64_t pitch, T factor, T* to) const {
    for (int64_t k = 0; k < heads; ++k)
      for (int64_t d = 0; d < head_width; ++d) to[k * pitch + d] = factor * from[d * side + k];
  }

  void repeat(T* numbers) const {
    for (int64_t k = side; k < pattern; ++k) numbers[k] = numbers[k - side];
  }

  // to[r], a pattern each, += for each head the product of a node's row and that of another node.
  template <class RowOf> void add_products(const T* row_of_node, int64_t count, const RowOf& row_of, T* to) const {
    for_pieces<4>(count, [&](auto n, int64_t first) {
      constexpr int kRows = decltype(n)::value;
      const T* rows[kRows];
      for (int r = 0; r < kRows; ++r) rows[r] = row_of(first + r);
      for (int64_t p = 0; p < pattern; p += kLanes<T>) {
        Register<T> sum[kRows];
        for (int r = 0; r < kRows; ++r) sum[r] = Register<T>(T(0));
        for (int64_t c = p; c < row; c += pattern) {
          const Register<T> x = load(row_of_node + c);
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) sum[r] = sum[r] + x * load(rows[r] + c);
        }
        for (int r = 0; r < kRows; ++r) add_folded(sum[r], p, to + (first + r) * pattern);
      }
    });
  }

  void add_folded(Register<T> sum, int64_t position, T* to) const {
    const Lanes<Register<T>> lanes(sum);
    for (int lane = 0; lane < kLanes<T>; ++lane) to[(position + lane) & (side - 1)] += lanes.at[lane];
  }

  // to = the sum of `count` rows, the features of each head times its number in the row's weights, a pattern.
  template <class WeightsOf, class RowOf>
  void weigh(int64_t count, const WeightsOf& weights_of, const RowOf& row_of, T* to) const {
    for_registers<T>(row, [&](int64_t c) {
      const int64_t p = c & (pattern - 1);
      Register<T> sum(T(0));
      for (int64_t r = 0; r < count; ++r) sum = sum + load(weights_of(r) + p) * load(row_of(r) + c);
      store(to + c, sum);
    });
  }
};

// Softmax of `count` rows of `width` numbers, column by column.
template <class T> void softmax_columns(T* rows, int64_t count, int64_t width) {
  using S = Register<T>;
  for_registers<T>(width, [&](int64_t c) {
    S top = load(rows + c), total(T(0));
    for (int64_t r = 1; r < count; ++r) top = at_least(top, load(rows + r * width + c));
    for (int64_t r = 0; r < count; ++r) {
      const S part = exponential(load(rows + r * width + c) - top);
      store(rows + r * width + c, part);
      total = total + part;
    }
    const S inverse = S(T(1)) / total;
    for (int64_t r = 0; r < count; ++r) store(rows + r * width + c, load(rows + r * width + c) * inverse);
  });
}

}  // namespace CLOF_ISA
}  // namespace clof
