// Weights into the order in which products read them, and their gradients back.
#pragma once

#include "edge_block_memory.h"
#include "linear_weights.h"

namespace clof {
inline namespace CLOF_ISA {

// One chunk's view of the weights' tensors.
template <class T> struct WeightTensors {
  const FrameMessageArguments& a;
  Widths<T> width;

  explicit WeightTensors(const FrameMessageArguments& a) : a(a), width(a) {}

  int64_t inputs() const { return 2 * a.node_features + 1 + a.edge_features; }
  Columns part(int64_t first, int64_t count) const { return {a.edge_mlp[0].weight, inputs(), first, count}; }

  void read(Weights<T>& to) const {
    const int64_t n = a.node_features;
    const Columns receiver = part(0, n), sender = part(n, n), radial = part(2 * n, 1);
    const Columns edge = part(2 * n + 1, a.edge_features);
    const auto transposed = [&](const Columns& from, const Packed<T>& matrix, int64_t column) {
      pack_transposed(a.storage, from, a.first, matrix, 0, column);
    };
    const auto plain = [&](const Columns& from, const Packed<T>& matrix, int64_t row) {
      pack_rows(a.storage, from, a.first, matrix, row);
    };
    transposed(receiver, to.node, 0);
    transposed(sender, to.node, width.first);
    transposed(edge, to.edge, 0);
    read_column(a.storage, radial, a.first, to.radial);
    read_bias(a.storage, a.edge_mlp[0].bias, a.first, to.node_bias);
    for (int layer = 0; layer < num_hidden(a); ++layer) {
      const LinearArguments& linear = hidden_linear(a, layer);
      const LinearSize size = hidden_size(a, layer);
      const Columns whole = {linear.weight, size.inputs, 0, size.inputs};
      pack_transposed(a.storage, whole, size.outputs, to.hidden[layer].forward, 0, 0);
      read_bias(a.storage, linear.bias, size.outputs, to.hidden[layer].bias);
      if (a.backward) pack_rows(a.storage, whole, size.outputs, to.hidden[layer].backward, 0);
    }
    read_gate_and_head(to);
    if (!a.backward) return;
    plain(receiver, to.node_backward, 0);
    plain(sender, to.node_backward, width.first);
    plain(edge, to.edge_backward, 0);
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
      read_row(head_linear(a).weight, a.storage, c, a.coord_hidden, to.head + c * width.coord);
      if (head_linear(a).bias != nullptr) read_value(head_linear(a).bias, c, to.head_bias + c);
    }
  }

  void read_value(const void* tensor, int64_t index, T* to) const {
    with_storage(a.storage,
                 [&](auto example) { *to = T(widen(static_cast<const decltype(example)*>(tensor)[index])); });
  }

  void write(const WeightGradients<T>& from) const {
    const int64_t n = a.node_features;
    void* first = a.edge_mlp[0].grad_weight;
    const auto transposed = [&](const T* rows, int64_t stride, int64_t count, int64_t at) {
      write_transposed(a.storage, rows, stride, count, a.first, first, inputs(), at);
    };
    transposed(from.node, width.both, n, 0);
    transposed(from.node + width.first, width.both, n, n);
    transposed(from.radial, width.first, 1, 2 * n);
    transposed(from.edge, width.first, a.edge_features, 2 * n + 1);
    write_row(from.node_bias, a.first, a.edge_mlp[0].grad_bias, a.storage, 0);
    for (int layer = 0; layer < num_hidden(a); ++layer) {
      const LinearArguments& linear = hidden_linear(a, layer);
      const LinearSize size = hidden_size(a, layer);
      write_transposed(a.storage, from.hidden[layer].weight, padded<T>(size.outputs), size.inputs, size.outputs,
                       linear.grad_weight, size.inputs, 0);
      write_row(from.hidden[layer].bias, size.outputs, linear.grad_bias, a.storage, 0);
    }
    if (a.att_mlp.weight != nullptr) {
      write_row(from.gate, a.hidden, a.att_mlp.grad_weight, a.storage, 0);
      write_row(from.gate_bias, 1, a.att_mlp.grad_bias, a.storage, 0);
    }
    const LinearArguments& head = head_linear(a);
    for (int c = 0; c < a.num_axes; ++c) {
      write_row(from.head + c * width.coord, a.coord_hidden, head.grad_weight, a.storage, c);
    }
    if (head.bias != nullptr) write_row(from.head_bias, a.num_axes, head.grad_bias, a.storage, 0);
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
