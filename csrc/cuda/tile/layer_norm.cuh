// LayerNorm(x + times h) and its gradients. A row lies in the registers of some lanes of a warp; it is read once, and
// its mean and variance are sums over the lanes. Sums over rows add in an order that does not depend on time.
#pragma once

#include <type_traits>

#include "../../functor/arguments.h"
#include "../geometry/lanes.cuh"

namespace clof::cuda {

// Numbers in memory: of x, of h (x's, or float32 beside halves), and of weight, bias and the result.
template <class X_, class H_, class Out_> struct NormTypes {
  using X = X_;
  using H = H_;
  using Out = Out_;
  // The wider of x and h, to which torch rounds what they add up to.
  using Sum = H_;
  using Number = std::conditional_t<std::is_same_v<Out, double>, double, float>;
};

// Which columns of a row a lane holds: `Groups` groups of `Group` columns side by side, one group of each of `Lanes`
// lanes after another.
template <int Lanes, int Group, int Groups> struct RowShape {
  static constexpr int lanes = Lanes, group = Group, count = Group * Groups, width = Lanes * count;
  // Rows that a warp has at a time.
  static constexpr int rows = kLanes / Lanes;

  // Calls body(k, column) for the first number of each group, the k-th of the lane, that a row of `columns` has.
  template <class Body> CLOF_DEVICE static void for_groups(int columns, const Body& body) {
#pragma unroll
    for (int g = 0; g < Groups; ++g) {
      const int column = (g * Lanes + lane_index() % Lanes) * Group;
      if (column < columns) body(g * Group, column);
    }
  }

  // The sum over the lanes of a row, known to all of them.
  template <class Number> CLOF_DEVICE static Number row_sum(Number value) {
#pragma unroll
    for (int mask = 1; mask < Lanes; mask *= 2) value += shuffle_xor(value, mask);
    return value;
  }
};

// Numbers that memory gives at once.
template <class T, int Count> struct alignas(Count * sizeof(T) < 16 ? Count * sizeof(T) : 16) Packed {
  T at[Count];
};

// A lane's numbers of a row; 0 beyond its columns.
template <class Number, class Shape> struct RowNumbers {
  Number at[Shape::count];

  CLOF_DEVICE RowNumbers() {
#pragma unroll
    for (Number& x : at) x = 0;
  }

  template <class T> CLOF_DEVICE RowNumbers(const T* row, int columns) : RowNumbers() {
    Shape::for_groups(columns, [&](int k, int column) {
      const auto packed = *reinterpret_cast<const Packed<T, Shape::group>*>(row + column);
#pragma unroll
      for (int i = 0; i < Shape::group; ++i) at[k + i] = Number(widen(packed.at[i]));
    });
  }

  template <class T> CLOF_DEVICE void store(T* row, int columns) const {
    Shape::for_groups(columns, [&](int k, int column) {
      Packed<T, Shape::group> packed;
#pragma unroll
      for (int i = 0; i < Shape::group; ++i) packed.at[i] = Narrow<T>::from(at[k + i]);
      *reinterpret_cast<Packed<T, Shape::group>*>(row + column) = packed;
    });
  }
};

// Blocks that a multiprocessor holds at a time: the smaller the part of a row that a lane has, the more.
template <class Number, class Shape> constexpr int norm_blocks_at_once(int of_four, int of_eight, int of_more) {
  constexpr int kFloats = Shape::count * int(sizeof(Number) / sizeof(float));
  return kFloats <= 4 ? of_four : kFloats <= 8 ? of_eight : of_more;
}

// What both passes do with a row.
template <class Types, class Shape> struct NormRows {
  using X = typename Types::X;
  using H = typename Types::H;
  using Out = typename Types::Out;
  using Number = typename Types::Number;
  using Numbers = RowNumbers<Number, Shape>;

  AddLayerNormProblem p;

  // Calls body(first number of a row, columns of it), 0 columns where there is no such row. All lanes of a warp call
  // it together: which rows a warp takes depends on the sizes alone.
  template <class Body> CLOF_DEVICE void for_rows(const Body& body) const {
    const int64_t warps = int64_t(num_blocks()) * (num_threads() / kLanes);
    const int64_t warp = int64_t(warp_index()) * num_blocks() + block_index();
    for (int64_t first = warp * Shape::rows; first < p.rows; first += warps * Shape::rows) {
      const int64_t row = first + lane_index() / Shape::lanes;
      if (row < p.rows) body(row * p.width, int(p.width));
      else body(0, 0);
    }
  }

  // (x + times h - mean) / deviation; gives 1 / deviation, too.
  CLOF_DEVICE Numbers normalised(int64_t at, int columns, Number& scale) const {
    const Numbers x(static_cast<const X*>(p.x) + at, columns), h(static_cast<const H*>(p.h) + at, columns);
    const Number width = Number(p.width), times = Number(p.times);
    Numbers row;
    Number sum = 0, square = 0;
#pragma unroll
    for (int k = 0; k < Shape::count; ++k) {
      row.at[k] = Number(widen(Narrow<typename Types::Sum>::from(x.at[k] + times * h.at[k])));
      sum += row.at[k];
    }
    const Number mean = Shape::row_sum(sum) / width;
    for_numbers(columns, [&](int k) {
      row.at[k] -= mean;
      square += row.at[k] * row.at[k];
    });
    scale = 1 / square_root(Shape::row_sum(square) / width + Number(p.eps));
    for_numbers(columns, [&](int k) { row.at[k] *= scale; });
    return row;
  }

  // Calls body(k) for each of a lane's numbers that a row of `columns` has.
  template <class Body> CLOF_DEVICE static void for_numbers(int columns, const Body& body) {
    Shape::for_groups(columns, [&](int first, int) {
#pragma unroll
      for (int k = first; k < first + Shape::group; ++k) body(k);
    });
  }
};

template <class Types, class Shape> struct AddLayerNorm : NormRows<Types, Shape> {
  using typename NormRows<Types, Shape>::Out;
  using typename NormRows<Types, Shape>::Number;
  using typename NormRows<Types, Shape>::Numbers;
  static constexpr int blocks_at_once = norm_blocks_at_once<Number, Shape>(6, 4, 1);

  CLOF_DEVICE void operator()() const {
    const AddLayerNormProblem& p = this->p;
    this->for_rows([&](int64_t at, int columns) {
      Number scale;
      Numbers row = this->normalised(at, columns, scale);
      const Numbers weight(static_cast<const Out*>(p.weight), columns), bias(static_cast<const Out*>(p.bias), columns);
#pragma unroll
      for (int k = 0; k < Shape::count; ++k) row.at[k] = row.at[k] * weight.at[k] + bias.at[k];
      row.store(static_cast<Out*>(p.out) + at, columns);
    });
  }
};

// Gradients of x and h, and each block's sums of those of weight and bias. The block has shared memory for two rows.
template <class Types, class Shape> struct AddLayerNormBackward : NormRows<Types, Shape> {
  using typename NormRows<Types, Shape>::X;
  using typename NormRows<Types, Shape>::H;
  using typename NormRows<Types, Shape>::Out;
  using typename NormRows<Types, Shape>::Number;
  using typename NormRows<Types, Shape>::Numbers;
  static constexpr int blocks_at_once = norm_blocks_at_once<Number, Shape>(4, 3, 1);

  Number* sums;  // (blocks, 2, width)

  CLOF_DEVICE void operator()() const {
    const AddLayerNormProblem& p = this->p;
    Numbers weight_sum, bias_sum;
    this->for_rows([&](int64_t at, int columns) {
      Number scale, sum = 0, product = 0;
      const Numbers row = this->normalised(at, columns, scale);
      Numbers grad(static_cast<const Out*>(p.grad) + at, columns);
      const Numbers weight(static_cast<const Out*>(p.weight), columns);
#pragma unroll
      for (int k = 0; k < Shape::count; ++k) {
        weight_sum.at[k] += grad.at[k] * row.at[k];
        bias_sum.at[k] += grad.at[k];
        grad.at[k] *= weight.at[k];
        sum += grad.at[k];
        product += grad.at[k] * row.at[k];
      }
      sum = Shape::row_sum(sum) / Number(p.width);
      product = Shape::row_sum(product) / Number(p.width);
#pragma unroll
      for (int k = 0; k < Shape::count; ++k) grad.at[k] = scale * (grad.at[k] - sum - row.at[k] * product);
      grad.store(static_cast<X*>(p.grad_x) + at, columns);
      if (p.grad_h == nullptr) return;
#pragma unroll
      for (int k = 0; k < Shape::count; ++k) grad.at[k] *= Number(p.times);
      grad.store(static_cast<H*>(p.grad_h) + at, columns);
    });
    write_sums(weight_sum, bias_sum);
  }

  CLOF_DEVICE void write_sums(Numbers& weight_sum, Numbers& bias_sum) const {
    const int width = int(this->p.width);
    over_rows(weight_sum);
    over_rows(bias_sum);
    Number* shared = reinterpret_cast<Number*>(shared_memory());
    for (int warp = 0; warp < num_threads() / kLanes; ++warp) {
      if (warp_index() == warp && lane_index() < Shape::lanes) {
        Shape::for_groups(width, [&](int first, int column) {
#pragma unroll
          for (int i = 0; i < Shape::group; ++i) {
            Number* place = shared + column + i;
            place[0] = (warp == 0 ? 0 : place[0]) + weight_sum.at[first + i];
            place[width] = (warp == 0 ? 0 : place[width]) + bias_sum.at[first + i];
          }
        });
      }
      block_barrier();
    }
    Number* to = sums + int64_t(block_index()) * 2 * width;
    for (int k = thread_index(); k < 2 * width; k += num_threads()) to[k] = shared[k];
  }

  // Over the rows that the warp had beside each other.
  CLOF_DEVICE static void over_rows(Numbers& numbers) {
#pragma unroll
    for (Number& x : numbers.at) {
#pragma unroll
      for (int mask = Shape::lanes; mask < kLanes; mask *= 2) x += shuffle_xor(x, mask);
    }
  }
};

// The gradients of weight and bias from the sums of blocks: each block of threads takes some of the columns. It has
// shared memory for a number of each thread.
template <class Types> struct AddLayerNormFinish {
  using Out = typename Types::Out;
  using Number = typename Types::Number;
  static constexpr int blocks_at_once = 4;
  // 32 bytes of floats, which memory gives at once.
  static constexpr int columns = 8;

  AddLayerNormProblem p;
  const Number* sums;  // (num_sums, 2, width)
  int num_sums;

  CLOF_DEVICE void operator()() const {
    const int width = int(p.width), parts = num_threads() / columns, part = thread_index() / columns;
    const int column = block_index() * columns + thread_index() % columns;
    Number* shared = reinterpret_cast<Number*>(shared_memory());
    Number sum = 0;
    if (column < 2 * width) {
#pragma unroll 8
      for (int k = part; k < num_sums; k += parts) sum += sums[int64_t(k) * 2 * width + column];
    }
    shared[thread_index()] = sum;
    block_barrier();
    if (part != 0 || column >= 2 * width) return;
    for (int k = 1; k < parts; ++k) sum += shared[k * columns + thread_index()];
    if (column < width) static_cast<Out*>(p.grad_weight)[column] = Narrow<Out>::from(sum);
    else static_cast<Out*>(p.grad_bias)[column - width] = Narrow<Out>::from(sum);
  }
};

}  // namespace clof::cuda
