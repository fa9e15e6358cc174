// A multilayer perceptron of rows, a tile of rows at a time: what lies between two Linears stays in the caches.
#pragma once

#include "../kernels/mlp.h"
#include "activation.h"
#include "arena.h"
#include "linear_weights.h"

namespace clof {
inline namespace CLOF_ISA {

// Rows in a tile: a multiple of the products' blocks of rows.
constexpr int64_t kMlpTile = 96;
static_assert(kMlpTile % kBlockRows == 0 && kMlpTile % kTilesBlockRows == 0);

// What all threads share. `columns` are numbers of columns padded to whole registers.
template <class T> struct MlpShared {
  Arena arena;
  int64_t columns[kMaxMlpLinears + 1], widest = 0;
  Packed<T> forward[kMaxMlpLinears], backward[kMaxMlpLinears];
  T* bias[kMaxMlpLinears];

  explicit MlpShared(const MlpArguments& a) : arena(a.shared) {
    for (int k = 0; k <= a.num_linears; ++k) {
      columns[k] = padded<T>(a.columns[k]);
      widest = columns[k] > widest ? columns[k] : widest;
    }
    const Products products = products_of(a);
    const auto packed = [&](int64_t depth, int64_t columns) {
      T* data = arena.take<T>(Packed<T>::size(depth, columns));
      return Packed<T>{data, depth, columns, products, arena.take<BFloat16>(products.factor_size(columns, depth))};
    };
    for (int k = 0; k < a.num_linears; ++k) {
      forward[k] = packed(a.columns[k], a.columns[k + 1]);
      bias[k] = arena.take<T>(columns[k + 1]);
      if (a.backward) backward[k] = packed(a.columns[k + 1], a.columns[k]);
    }
  }
};

// Sums of weights' gradients, inputs by outputs.
template <class T> struct MlpSums {
  T *weight[kMaxMlpLinears], *bias[kMaxMlpLinears];

  MlpSums(const MlpArguments& a, Arena& arena) {
    for (int k = 0; k < a.num_linears; ++k) {
      weight[k] = arena.take<T>(products_of(a).sum_rows(a.columns[k]) * padded<T>(a.columns[k + 1]));
      bias[k] = arena.take<T>(padded<T>(a.columns[k + 1]));
    }
  }

  static int64_t bytes(const MlpArguments& a) {
    Arena arena(nullptr);
    MlpSums(a, arena);
    return arena.used();
  }

  // Those of a group of chunks; they lie behind everything else that is shared.
  static char* of_group(const MlpArguments& a, int64_t group) {
    return static_cast<char*>(a.shared) + MlpShared<T>(a).arena.used() + group * bytes(a);
  }
  static MlpSums at(const MlpArguments& a, char* memory) {
    Arena arena(memory);
    return MlpSums(a, arena);
  }
};

// One thread's view of a call, and its tile.
template <class T> struct MlpBlock {
  const MlpArguments& a;
  Products products;
  MlpShared<T> shared;
  Arena arena;
  T* values[kMaxMlpLinears + 1];  // the input, and what each Linear and its activation made
  T* slopes[kMaxMlpLinears];      // of the activations, in the backward pass
  T *grad, *other_grad, *zeros;   // `zeros` is one row
  char* sums;                     // MlpSums of one chunk
  OuterRoom outer;                // for the factors of a weight's gradient
  // For second derivatives: those of the activations, and tangents of `values` and `grad`.
  T* curves[kMaxMlpLinears];
  T* tangents[kMaxMlpLinears + 1];
  T *grad_tangent, *other_grad_tangent;

  MlpBlock(const MlpArguments& a, void* memory) : a(a), products(products_of(a)), shared(a), arena(memory) {
    // Forward, two matrices take turns.
    for (int k = 0; k <= a.num_linears; ++k) {
      values[k] = k < 2 || a.backward ? matrix(a.backward ? shared.columns[k] : shared.widest) : values[k - 2];
    }
    for (T*& slope : slopes) slope = nullptr;
    for (T*& curve : curves) curve = nullptr;
    if (!a.backward) return;
    for (int k = 0; k < a.num_linears; ++k) slopes[k] = activated(k) ? matrix(shared.columns[k + 1]) : nullptr;
    grad = matrix(shared.widest);
    other_grad = matrix(shared.widest);
    zeros = arena.take<T>(shared.widest);
    sums = arena.take<char>(MlpSums<T>::bytes(a));
    outer = OuterRoom(products, kMlpTile, shared.widest, shared.widest, arena);
    if (!a.second) return;
    for (int k = 0; k < a.num_linears; ++k) curves[k] = activated(k) ? matrix(shared.columns[k + 1]) : nullptr;
    for (int k = 0; k <= a.num_linears; ++k) tangents[k] = matrix(shared.columns[k]);
    grad_tangent = matrix(shared.widest);
    other_grad_tangent = matrix(shared.widest);
  }

  static MlpMemory memory(const MlpArguments& a) {
    MlpArguments without_memory = a;
    without_memory.shared = nullptr;
    const MlpBlock block(without_memory, nullptr);
    return {block.shared.arena.used() + (a.backward ? sum_groups(a.chunks) * MlpSums<T>::bytes(a) : 0),
            block.arena.used()};
  }

  T* matrix(int64_t columns) { return arena.take<T>(kMlpTile * columns); }
  bool activated(int linear) const { return linear + 1 < a.num_linears || a.activate_last; }
  int64_t first_row(int64_t chunk) const { return a.rows * chunk / a.chunks; }

  template <class Body> void for_tiles(int64_t chunk, const Body& body) {
    const int64_t last = first_row(chunk + 1);
    for (int64_t row = first_row(chunk); row < last; row += kMlpTile) {
      body(row, int(last - row < kMlpTile ? last - row : kMlpTile));
    }
  }

  void forward(int64_t chunk) {
    for_tiles(chunk, [&](int64_t first, int count) {
      run(first, count);
      const int64_t columns = shared.columns[a.num_linears];
      for (int k = 0; k < count; ++k) {
        write_row(values[a.num_linears] + k * columns, a.columns[a.num_linears], a.out, a.storage, first + k);
      }
    });
  }

  void run(int64_t first, int count) {
    load(a.inputs, first, count, values[0]);
    for (int k = 0; k < a.num_linears; ++k) {
      const int64_t columns = shared.columns[k + 1];
      product(values[k], shared.columns[k], shared.forward[k], shared.bias[k], 0, values[k + 1], columns,
              products.whole_blocks(count), [&](int64_t row, int64_t rows) {
                if (!activated(k)) return;
                const Activated<T> to{values[k + 1], slopes[k], curves[k]};
                activate(a.activation, to, row * columns, rows * columns);
              });
    }
  }

  // The inputs side by side; rows behind the last one are zeros, because they take part in products.
  void load(const void* const* inputs, int64_t first, int count, T* to) {
    const int64_t columns = shared.columns[0];
    for (int k = 0; k < count; ++k) {
      T* row = to + k * columns;
      int64_t at = 0;
      with_storage(a.storage, [&](auto example) {
        for (int input = 0; input < a.num_inputs; ++input) {
          const int64_t width = a.input_columns[input];
          const auto* from = static_cast<const decltype(example)*>(inputs[input]) + (first + k) * width;
          for (int64_t c = 0; c < width; ++c) row[at++] = T(widen(from[c]));
        }
      });
      for (; at < columns; ++at) row[at] = T(0);
    }
    fill(to + count * columns, (products.whole_blocks(count) - count) * columns, T(0));
  }

  // The chunk's sums of weights' gradients, at 0.
  MlpSums<T> start_sums(int64_t chunk) {
    fill(zeros, shared.widest, T(0));
    if (!alone()) std::memset(sums, 0, MlpSums<T>::bytes(a));
    return MlpSums<T>::at(a, alone() ? MlpSums<T>::of_group(a, chunk) : sums);
  }

  void backward(int64_t chunk) {
    const MlpSums<T> chunk_sums = start_sums(chunk);
    for_tiles(chunk, [&](int64_t first, int count) {
      run(first, count);
      load_gradients(first, count);
      if (a.activate_last) multiply_by(grad, slopes[a.num_linears - 1], count * shared.columns[a.num_linears]);
      for (int k = a.num_linears - 1; k >= 0; --k) linear_backward(k, first, count, chunk_sums);
    });
  }

  void clear_group(int64_t group) { std::memset(MlpSums<T>::of_group(a, group), 0, MlpSums<T>::bytes(a)); }

  // In its group: what a chunk adds up needs no place of its own.
  bool alone() const { return a.chunks == sum_groups(a.chunks); }

  // Those of this worker's last chunk to those of its group.
  void add_sums(int64_t chunk) {
    if (alone()) return;
    T* group = reinterpret_cast<T*>(MlpSums<T>::of_group(a, chunk % sum_groups(a.chunks)));
    add_to(group, reinterpret_cast<const T*>(sums), MlpSums<T>::bytes(a) / int64_t(sizeof(T)));
  }

  void load_gradients(int64_t first, int count) {
    const int last = a.num_linears;
    const int64_t columns = shared.columns[last];
    for (int k = 0; k < count; ++k) {
      read_row(a.grad_out, a.storage, first + k, a.columns[last], grad + k * columns);
    }
    fill(grad + count * columns, (products.whole_blocks(count) - count) * columns, T(0));
  }

  // Gradients of the weights of a Linear; `grad` becomes that of what stood before it.
  void linear_backward(int k, int64_t first, int count, const MlpSums<T>& sums) {
    const int64_t columns = shared.columns[k + 1], before = shared.columns[k];
    add_outer(products, values[k], before, a.columns[k], grad, columns, columns, count, sums.weight[k], outer);
    add_rows(sums.bias[k], grad, count, columns);
    if (k == 0 && !a.input_gradients) return;
    product(grad, columns, shared.backward[k], zeros, 0, other_grad, before, products.whole_blocks(count),
            [&](int64_t row, int64_t rows) {
              if (k > 0) multiply_by(other_grad + row * before, slopes[k - 1] + row * before, rows * before);
            });
    if (k == 0) return write_input_gradients(other_grad, first, count);
    std::swap(grad, other_grad);
  }

  void write_input_gradients(const T* rows, int64_t first, int count) {
    for (int k = 0; k < count; ++k) {
      const T* row = rows + k * shared.columns[0];
      for (int input = 0; input < a.num_inputs; ++input) {
        write_row(row, a.input_columns[input], a.grad_inputs[input], a.storage, first + k);
        row += a.input_columns[input];
      }
    }
  }

  void pack() {
    // Padding is 0 everywhere.
    std::memset(a.shared, 0, shared.arena.used());
    for (int k = 0; k < a.num_linears; ++k) {
      const int64_t inputs = a.columns[k], outputs = a.columns[k + 1];
      const Columns weight{a.linears[k].weight, inputs, 0, inputs};
      pack_transposed(a.storage, weight, outputs, shared.forward[k], 0, 0);
      read_bias(a.storage, a.linears[k].bias, outputs, shared.bias[k]);
      finish_packing(shared.forward[k]);
      if (!a.backward) continue;
      pack_rows(a.storage, weight, outputs, shared.backward[k], 0);
      finish_packing(shared.backward[k]);
    }
  }

  void write_weight_gradients() {
    const MlpSums<T> sums = MlpSums<T>::at(a, MlpSums<T>::of_group(a, 0));
    for (int k = 0; k < a.num_linears; ++k) {
      const int64_t inputs = a.columns[k], outputs = a.columns[k + 1];
      write_transposed(a.storage, sums.weight[k], shared.columns[k + 1], inputs, outputs, a.linears[k].grad_weight,
                       inputs, 0);
      write_row(sums.bias[k], outputs, a.linears[k].grad_bias, a.storage, 0);
    }
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
