// Weights into the order in which products read them, and their gradients back.
#pragma once

#include "edge_block.h"

namespace clof {
inline namespace CLOF_ISA {

// Of a row-major (outputs, stride) matrix, `count` columns from `first` on.
struct Columns {
  const void* data;
  int64_t stride, first, count;
};

// One chunk's view of the weights' tensors.
template <class T> struct WeightTensors {
  const FrameMessageArguments& a;
  Widths<T> width;

  explicit WeightTensors(const FrameMessageArguments& a) : a(a), width(a) {}

  int64_t inputs() const { return 2 * a.node_features + 1 + a.edge_features; }
  Columns part(int64_t first, int64_t count) const { return {a.edge_mlp[0].weight, inputs(), first, count}; }
  Columns whole(const LinearArguments& linear) const { return {linear.weight, a.hidden, 0, a.hidden}; }

  template <class Body> void for_numbers(const Columns& from, int64_t outputs, const Body& body) const {
    with_storage(a.storage, [&](auto example) {
      const auto* data = static_cast<const decltype(example)*>(from.data) + from.first;
      for (int64_t o = 0; o < outputs; ++o) {
        for (int64_t i = 0; i < from.count; ++i) body(o, i, T(widen(data[o * from.stride + i])));
      }
    });
  }

  // For from * weight^T: inputs by outputs, the inputs from `row_first` and the outputs from `column` on.
  void pack_transposed(const Columns& from, const Packed<T>& to, int64_t row_first, int64_t column) const {
    for (int64_t o = 0; o < a.hidden; ++o) {
      // A column of a panel: its numbers are a panel's width apart.
      T* data = to.data + to.offset(row_first, column + o);
      const int64_t stride = to.offset(1, column + o) - to.offset(0, column + o);
      with_storage(a.storage, [&](auto example) {
        const auto* row = static_cast<const decltype(example)*>(from.data) + o * from.stride + from.first;
        for (int64_t i = 0; i < from.count; ++i) data[i * stride] = T(widen(row[i]));
      });
    }
  }

  // For from * weight: outputs by inputs, the outputs from `row` on.
  void pack(const Columns& from, const Packed<T>& to, int64_t row) const {
    for_numbers(from, a.hidden, [&](int64_t o, int64_t i, T value) { to.data[to.offset(row + o, i)] = value; });
  }

  void read_bias(const LinearArguments& linear, int64_t outputs, T* to) const {
    if (linear.bias == nullptr) fill(to, outputs, T(0));
    else read_row(linear.bias, a.storage, 0, outputs, to);
  }

  void read(Weights<T>& to) const {
    const int64_t n = a.node_features;
    const Columns receiver = part(0, n), sender = part(n, n), radial = part(2 * n, 1);
    const Columns edge = part(2 * n + 1, a.edge_features);
    pack_transposed(receiver, to.node, 0, 0);
    pack_transposed(sender, to.node, 0, width.hidden);
    pack_transposed(edge, to.edge, 0, 0);
    for_numbers(radial, a.hidden, [&](int64_t o, int64_t, T value) { to.radial[o] = value; });
    read_bias(a.edge_mlp[0], a.hidden, to.node_bias);
    for (int layer = 0; layer < num_hidden(a); ++layer) {
      const LinearArguments& linear = hidden_linear(a, layer);
      pack_transposed(whole(linear), to.hidden[layer].forward, 0, 0);
      read_bias(linear, a.hidden, to.hidden[layer].bias);
      if (a.backward) pack(whole(linear), to.hidden[layer].backward, 0);
    }
    read_gate_and_head(to);
    if (!a.backward) return;
    pack(receiver, to.node_backward, 0);
    pack(sender, to.node_backward, width.hidden);
    pack(edge, to.edge_backward, 0);
  }

  // The packed matrices in the form that products read.
  void finish_all(const Weights<T>& weights) const {
    finish_packing(weights.node);
    finish_packing(weights.edge);
    for (int layer = 0; layer < num_hidden(a); ++layer) finish_packing(weights.hidden[layer].forward);
    if (!a.backward) return;
    finish_packing(weights.node_backward);
    finish_packing(weights.edge_backward);
    for (int layer = 0; layer < num_hidden(a); ++layer) finish_packing(weights.hidden[layer].backward);
  }

  void read_gate_and_head(Weights<T>& to) const {
    if (a.att_mlp.weight != nullptr) {
      read_row(a.att_mlp.weight, a.storage, 0, a.hidden, to.gate);
      read_value(a.att_mlp.bias, 0, to.gate_bias);
    }
    for (int c = 0; c < a.num_axes; ++c) {
      read_row(head_linear(a).weight, a.storage, c, a.hidden, to.head + c * width.hidden);
      if (head_linear(a).bias != nullptr) read_value(head_linear(a).bias, c, to.head_bias + c);
    }
  }

  void read_value(const void* tensor, int64_t index, T* to) const {
    with_storage(a.storage,
                 [&](auto example) { *to = T(widen(static_cast<const decltype(example)*>(tensor)[index])); });
  }

  // Rows of sums, inputs by outputs, to columns of the gradient, outputs by inputs.
  void write_transposed(const T* from, int64_t from_stride, int64_t count, void* to, int64_t to_stride,
                        int64_t first) const {
    with_storage(a.storage, [&](auto example) {
      using U = decltype(example);
      for (int64_t o = 0; o < a.hidden; ++o) {
        U* row = static_cast<U*>(to) + o * to_stride + first;
        for (int64_t i = 0; i < count; ++i) row[i] = Narrow<U>::from(from[i * from_stride + o]);
      }
    });
  }

  void write(const WeightGradients<T>& from) const {
    const int64_t n = a.node_features;
    void* first = a.edge_mlp[0].grad_weight;
    write_transposed(from.node, width.both, n, first, inputs(), 0);
    write_transposed(from.node + width.hidden, width.both, n, first, inputs(), n);
    write_transposed(from.radial, width.hidden, 1, first, inputs(), 2 * n);
    write_transposed(from.edge, width.hidden, a.edge_features, first, inputs(), 2 * n + 1);
    write_row(from.node_bias, a.hidden, a.edge_mlp[0].grad_bias, a.storage, 0);
    for (int layer = 0; layer < num_hidden(a); ++layer) {
      const LinearArguments& linear = hidden_linear(a, layer);
      write_transposed(from.hidden[layer].weight, width.hidden, a.hidden, linear.grad_weight, a.hidden, 0);
      write_row(from.hidden[layer].bias, a.hidden, linear.grad_bias, a.storage, 0);
    }
    if (a.att_mlp.weight != nullptr) {
      write_row(from.gate, a.hidden, a.att_mlp.grad_weight, a.storage, 0);
      write_row(from.gate_bias, 1, a.att_mlp.grad_bias, a.storage, 0);
    }
    const LinearArguments& head = head_linear(a);
    for (int c = 0; c < a.num_axes; ++c) {
      write_row(from.head + c * width.hidden, a.hidden, head.grad_weight, a.storage, c);
    }
    if (head.bias != nullptr) write_row(from.head_bias, a.num_axes, head.grad_bias, a.storage, 0);
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
