// Second derivatives of the perceptron of rows: its backward pass, differentiated in a direction of the inputs, with
// the cotangent and the weights held. See edge_block_second.h.
#pragma once

#include "mlp_block.h"
#include "tangents.h"

namespace clof {
inline namespace CLOF_ISA {

template <class T> struct MlpSecondBlock : MlpBlock<T> {
  using Base = MlpBlock<T>;
  using Base::a, Base::curves, Base::grad, Base::grad_tangent, Base::other_grad, Base::other_grad_tangent, Base::outer,
      Base::products, Base::shared, Base::slopes, Base::tangents, Base::values, Base::zeros;

  using Base::Base;

  void second(int64_t chunk) {
    const MlpSums<T> sums = this->start_sums(chunk);
    this->for_tiles(chunk, [&](int64_t first, int count) {
      this->run(first, count);
      run_tangents(first, count);
      start_gradients(first, count);
      for (int k = a.num_linears - 1; k >= 0; --k) linear_second(k, first, count, sums);
    });
  }

  // Of everything that run() computed; that of the result is written.
  void run_tangents(int64_t first, int count) {
    this->load(a.input_tangents, first, count, tangents[0]);
    for (int k = 0; k < a.num_linears; ++k) {
      const int64_t columns = shared.columns[k + 1];
      product(tangents[k], shared.columns[k], shared.forward[k], zeros, 0, tangents[k + 1], columns,
              products.whole_blocks(count), [&](int64_t row, int64_t rows) {
                const int64_t at = row * columns;
                if (this->activated(k)) bend(tangents[k + 1] + at, slopes[k] + at, curves[k] + at, rows * columns);
              });
    }
    const int last = a.num_linears;
    for (int k = 0; k < count; ++k) {
      write_row(tangents[last] + k * shared.columns[last], a.columns[last], a.out, a.storage, first + k);
    }
  }

  // The cotangent has no tangent.
  void start_gradients(int64_t first, int count) {
    this->load_gradients(first, count);
    const int last = a.num_linears;
    const int64_t numbers = products.whole_blocks(count) * shared.columns[last];
    fill(grad_tangent, numbers, T(0));
    if (a.activate_last) unbend<T>({grad, grad_tangent}, slopes[last - 1], curves[last - 1], 0, numbers);
  }

  // Tangents of the gradients of a Linear's weights; `grad` and its tangent become those of what stood before it.
  void linear_second(int k, int64_t first, int count, const MlpSums<T>& sums) {
    const int64_t columns = shared.columns[k + 1], before = shared.columns[k];
    const auto add = [&](const T* inputs, const T* gradient) {
      add_outer(products, inputs, before, a.columns[k], gradient, columns, columns, count, sums.weight[k], outer);
    };
    add(values[k], grad_tangent);
    add(tangents[k], grad);
    add_rows(sums.bias[k], grad_tangent, count, columns);
    const int rows = products.whole_blocks(count);
    product(grad, columns, shared.backward[k], zeros, 0, other_grad, before, rows);
    product(grad_tangent, columns, shared.backward[k], zeros, 0, other_grad_tangent, before, rows,
            [&](int64_t row, int64_t block) {
              if (k == 0) return;
              unbend<T>({other_grad, other_grad_tangent}, slopes[k - 1], curves[k - 1], row * before, block * before);
            });
    if (k == 0) return this->write_input_gradients(other_grad_tangent, first, count);
    std::swap(grad, other_grad);
    std::swap(grad_tangent, other_grad_tangent);
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
