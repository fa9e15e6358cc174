// The backward pass of the fused edge block: a tile is computed again and run in reverse.
#pragma once

#include "edge_block.h"

namespace clof {
inline namespace CLOF_ISA {

// Positions [first, last) in the order by receiver: a chunk's edges of a wave.
struct EdgeRange {
  int64_t first, last;
};

inline EdgeRange wave_of(const FrameMessageArguments& a, int64_t chunk, int64_t wave) {
  const int64_t first = a.graph.receiver_start[a.chunks.first_node[chunk]];
  const int64_t last = a.graph.receiver_start[a.chunks.first_node[chunk + 1]];
  if (a.chunks.closed) return {first, last};
  const int64_t begin = first + wave * kFrameMessageWave, end = begin + kFrameMessageWave;
  return {begin < last ? begin : last, end < last ? end : last};
}

template <class T> struct BackwardBlock : EdgeBlock<T> {
  using Base = EdgeBlock<T>;
  using Base::a, Base::chunk, Base::products, Base::shared, Base::tables, Base::tile, Base::width;
  using S = Register<T>;

  BackwardBlock(const FrameMessageArguments& a, int64_t worker, int64_t chunk)
      : Base(a, worker, chunk), sums(WeightGradients<T>::at(a, alone() ? group_sums() : tile.sums)) {
    fill(tile.zeros, width.longest(), T(0));
  }

  // Sums start at 0: those of the chunk's nodes, and of the weights in the group that the chunk is the first of.
  void clear() {
    const int64_t first = this->first_node(), count = this->last_node() - first;
    fill(tables.grad_shares.of(first), count * width.both, T(0));
    fill(static_cast<T*>(a.grad_pos) + 3 * first, 3 * count, T(0));
    if (chunk < sum_groups(a.chunks.count)) std::memset(group_sums(), 0, WeightGradients<T>::bytes(a));
  }

  char* group_sums() const { return shared.sums_of_group(a, chunk % sum_groups(a.chunks.count)); }
  // In its group: what the chunk adds up needs no place of its own.
  bool alone() const { return a.chunks.count == sum_groups(a.chunks.count); }

  // What edges or nodes add to, in bytes of the sums.
  struct Part {
    int64_t first, last;
  };
  Part of_nodes() const { return {0, sums.node_bytes()}; }
  Part of_edges() const { return {sums.node_bytes(), WeightGradients<T>::bytes(a)}; }
  Part of_all() const { return {0, WeightGradients<T>::bytes(a)}; }

  void clear_sums(Part part) {
    if (!alone()) std::memset(tile.sums + part.first, 0, part.last - part.first);
  }

  // Those of this worker's last piece of work to those of its group.
  void add_sums(Part part) {
    if (alone()) return;
    add_to(reinterpret_cast<T*>(group_sums() + part.first), reinterpret_cast<const T*>(tile.sums + part.first),
           (part.last - part.first) / int64_t(sizeof(T)));
  }

  void edges(int64_t wave) {
    clear_sums(of_edges());
    const EdgeRange range = wave_of(a, chunk, wave);
    for (int64_t edge = range.first; edge < range.last; edge += kTile) {
      const int64_t left = range.last - edge;
      this->run(edge, left < kTile ? left : kTile);
      load_gradients();
      coord_mlp_backward();
      if (a.att_mlp.weight != nullptr) gate_backward();
      edge_mlp_backward();
      geometry_backward();
      to_receivers();
      to_senders(edge - range.first);
    }
  }

  // Of a matrix of messages.
  T* row(T* matrix, int k) const { return matrix + k * width.hidden; }

  // Gradients of each edge's message and vector, of its coefficients and of edge_weight.
  void load_gradients() {
    load_message_gradients();
    load_vector_gradients();
    this->for_edges([&](int k) {
      const Vec3<S> grad = this->load_column3(tile.grad_vector, k);
      for (int c = 0; c < a.num_axes; ++c) {
        S by_coefficient = dot(grad, this->axis(c, k));
        const S q = this->coefficient(c, k);
        if (a.tanh) by_coefficient = by_coefficient * (S(T(1)) - q * q);
        store(tile.grad_coefficients + c * kTile + k, by_coefficient);
      }
    });
  }

  void load_message_gradients() {
    for (int k = 0; k < tile.count; ++k) {
      if (k == 0 || tile.receiver[k] != tile.receiver[k - 1]) {
        read_row(a.grad_message, a.storage, tile.receiver[k], a.hidden, tile.grad_message);
      }
      scale(row(tile.grad, k), tile.weight[k] * tile.message_scale[k], tile.grad_message, width.hidden);
      if (a.grad_edge_weight != nullptr) {
        const T along = dot(tile.grad_message, row(tile.gated, k), width.hidden);
        tile.grad_radial[k] = tile.message_scale[k] * along;
      }
    }
    clear_behind(tile.grad, width.hidden);
  }

  // Rows behind the last edge take part in products.
  void clear_behind(T* rows, int64_t row_width) {
    fill(rows + tile.count * row_width, (tile.rows - tile.count) * row_width, T(0));
  }

  void load_vector_gradients() {
    for (int k = 0; k < tile.count; ++k) {
      const T* grad = static_cast<const T*>(a.grad_vector) + 3 * int64_t(tile.receiver[k]);
      T along = 0;
      for (int c = 0; c < 3; ++c) {
        const T t = tile.vector[c * kTile + k], bounded = this->clamped(t);
        along += grad[c] * bounded;
        tile.grad_vector[c * kTile + k] = t == bounded ? tile.weight[k] * tile.vector_scale[k] * grad[c] : T(0);
      }
      if (a.grad_edge_weight != nullptr) {
        write_value(a.grad_edge_weight, tile.edge[k], tile.grad_radial[k] + tile.vector_scale[k] * along);
      }
    }
  }

  void write_value(void* tensor, int64_t index, T value) const {
    with_storage(a.storage, [&](auto example) {
      using U = decltype(example);
      static_cast<U*>(tensor)[index] = Narrow<U>::from(value);
    });
  }

  // From the coefficients to the (gated) message.
  void coord_mlp_backward() {
    if (a.num_coord_linears == 1) {
      return head_backward([&](int64_t at, S by_input) { store(tile.grad + at, load(tile.grad + at) + by_input); });
    }
    T* grad = tile.other_grad;
    head_backward([&](int64_t at, S by_input) { store(grad + at, by_input * load(tile.coord_slopes + at)); });
    clear_behind(grad, width.coord);
    linear_backward(tile.gated, grad, num_hidden(a) - 1, tile.grad, width.hidden, tile.grad, nullptr);
  }

  // The last Linear, which makes the coefficients; use(at, gradient) takes that of a register of its inputs.
  template <class Use> void head_backward(const Use& use) {
    if (a.num_axes == 3) head_backward_of<3>(use);
    else head_backward_of<1>(use);
    add_to_head_bias(tile.grad_coefficients);
  }

  void add_to_head_bias(const T* columns) {
    for (int c = 0; c < a.num_axes; ++c) {
      for (int k = 0; k < tile.count; ++k) sums.head_bias[c] += columns[c * kTile + k];
    }
  }

  template <int Axes, class Use> void head_backward_of(const Use& use) {
    for_registers<T>(width.coord, [&](int64_t column) {
      S weight[Axes], sum[Axes];
      for (int c = 0; c < Axes; ++c) {
        weight[c] = load(shared.weights.head + c * width.coord + column);
        sum[c] = load(sums.head + c * width.coord + column);
      }
      for (int k = 0; k < tile.count; ++k) {
        const int64_t at = k * width.coord + column;
        const S input = load(tile.coord + at);
        S by_input(T(0));
        for (int c = 0; c < Axes; ++c) {
          const S grad(tile.grad_coefficients[c * kTile + k]);
          by_input = by_input + grad * weight[c];
          sum[c] = sum[c] + grad * input;
        }
        use(at, by_input);
      }
      for (int c = 0; c < Axes; ++c) store(sums.head + c * width.coord + column, sum[c]);
    });
  }

  // Of the hidden Linear `layer`: gradients of its weights, and to = init + the gradient of its inputs, times the
  // slopes of the activation that made them, if given.
  void linear_backward(const T* inputs, const T* grad, int layer, const T* init, int64_t init_stride, T* to,
                       const T* slopes) {
    const LinearSize size = hidden_size(a, layer);
    const int64_t from_width = padded<T>(size.inputs), grad_width = padded<T>(size.outputs);
    add_to_weights(inputs, from_width, size.inputs, grad, grad_width, tile.count, sums.hidden[layer].weight);
    add_rows(sums.hidden[layer].bias, grad, tile.count, grad_width);
    product(grad, grad_width, shared.weights.hidden[layer].backward, init, init_stride, to, from_width, tile.rows,
            [&](int64_t first, int64_t count) {
              const int64_t at = first * from_width;
              if (slopes != nullptr) multiply_by(to + at, slopes + at, count * from_width);
            });
  }

  // The gradient of a Linear's weight: the sum of inputs by gradients of outputs, over some rows.
  void add_to_weights(const T* inputs, int64_t stride, int64_t count, const T* grad, int64_t grad_width, int64_t rows,
                      T* to) {
    add_outer(products, inputs, stride, count, grad, grad_width, grad_width, rows, to, tile.outer);
  }

  void gate_backward() {
    const T* message = tile.values[a.num_edge_linears - 1];
    for (int k = 0; k < tile.count; ++k) {
      const T gate = tile.gate[k], by_gate = dot(row(tile.grad, k), message + k * width.hidden, width.hidden);
      const T grad = by_gate * gate * (1 - gate);
      *sums.gate_bias += grad;
      add_scaled(sums.gate, grad, message + k * width.hidden, width.hidden);
      scale(row(tile.grad, k), gate, row(tile.grad, k), width.hidden);
      add_scaled(row(tile.grad, k), grad, shared.weights.gate, width.hidden);
    }
  }

  // From the message to the edge's inputs and to the first Linear's shares of its nodes, which end in tile.grad as
  // rows of width.first.
  void edge_mlp_backward() {
    multiply_by(tile.grad, tile.slopes[a.num_edge_linears - 1], tile.rows * width.hidden);
    for (int layer = a.num_edge_linears - 1; layer > 0; --layer) {
      linear_backward(tile.values[layer - 1], tile.grad, layer - 1, tile.zeros, 0, tile.other_grad,
                      tile.slopes[layer - 1]);
      std::swap(tile.grad, tile.other_grad);
    }
    add_to_weights(tile.input, width.input, a.edge_features, tile.grad, width.first, tile.count, sums.edge);
    add_rows_scaled(sums.radial, tile.radial, tile.grad, tile.count, width.first);
    for (int k = 0; k < tile.count; ++k) {
      tile.grad_radial[k] = dot(tile.grad + k * width.first, shared.weights.radial, width.first);
    }
    if (a.grad_edge_attr != nullptr) grad_edge_attr(tile.grad);
  }

  // From the gradient of what the first Linear made.
  void grad_edge_attr(const T* grad) {
    const Packed<T>& weight = shared.weights.edge_backward;
    const int64_t columns = padded<T>(a.edge_features);
    product(grad, width.first, weight, tile.zeros, 0, tile.grad_inputs, columns, tile.rows);
    for (int k = 0; k < tile.count; ++k) {
      write_row(tile.grad_inputs + k * columns, a.edge_features, a.grad_edge_attr, a.storage, tile.edge[k]);
    }
  }

  void geometry_backward() {
    this->for_edges([&](int k) {
      const Ends<S> x = this->ends(k);
      const FrameParts<S> parts = frame_parts(a.mode, x);
      const Vec3<S> grad = this->load_column3(tile.grad_vector, k);
      const S zero(T(0));
      const Vec3<S> none{zero, zero, zero};
      Mat3<S> by_frame{this->coefficient(0, k) * grad, none, none};
      if (a.num_axes == 3) {
        by_frame.b = this->coefficient(1, k) * grad;
        by_frame.c = this->coefficient(2, k) * grad;
      }
      const Vec3<S> by_d = (S(T(2)) * load(tile.grad_radial + k)) * parts.d;
      const Ends<S> by_ends = edge_frame_vjp(parts, x, by_frame);
      this->store_column3(tile.grad_ends, k, by_ends.i + by_d);
      this->store_column3(tile.grad_ends + 3 * kTile, k, by_ends.j - by_d);
    });
  }

  // Rows of width.first to those of their receivers (share 0) or senders (share 1).
  void add_to_nodes(const NodeRows<T>& nodes, const int32_t* node, int share, const T* rows) {
    for (int k = 0; k < tile.count; ++k) {
      add_to(nodes.of(node[k]) + share * width.first, rows + k * width.first, width.first);
    }
  }

  void add_to_grad_pos(const int32_t* node, int share) {
    for (int k = 0; k < tile.count; ++k) {
      T* grad_pos = static_cast<T*>(a.grad_pos) + 3 * int64_t(node[k]);
      for (int c = 0; c < 3; ++c) grad_pos[c] += tile.grad_ends[(3 * share + c) * kTile + k];
    }
  }

  void to_receivers() {
    add_to_nodes(tables.grad_shares, tile.receiver, 0, tile.grad);
    add_to_grad_pos(tile.receiver, 0);
  }

  // `place` is the tile's place in the chunk's wave.
  void to_senders(int64_t place) {
    if (a.chunks.closed) {
      add_to_nodes(tables.grad_shares, tile.sender, 1, tile.grad);
      add_to_grad_pos(tile.sender, 1);
      return;
    }
    keep_for_senders(shared.sender_rows, place, tile.grad);
    const int64_t first = first_kept(place);
    for (int k = 0; k < tile.count; ++k) {
      for (int c = 0; c < 3; ++c) shared.sender_pos[3 * (first + k) + c] = tile.grad_ends[(3 + c) * kTile + k];
    }
  }

  int64_t first_kept(int64_t place) const { return chunk * kFrameMessageWave + place; }

  void keep_for_senders(T* kept, int64_t place, const T* rows) {
    std::memcpy(kept + first_kept(place) * width.first, rows, tile.count * width.first * sizeof(T));
  }

  // Gradients of the features of the chunk's nodes and of the weights that read them.
  void nodes() {
    clear_sums(of_nodes());
    features_of_nodes(tables.grad_shares);
    weights_of_nodes(a.h, tables.grad_shares);
    add_to_node_bias(tables.grad_shares);
  }

  void features_of_nodes(const NodeRows<T>& grads) {
    const int64_t last = this->last_node();
    const int64_t block = products.block_rows();
    for (int64_t node = this->first_node(); node < last; node += block) {
      const int64_t count = last - node < block ? last - node : block;
      const T* grad = block_of_nodes(grads.of(node), count);
      product(grad, width.both, shared.weights.node_backward, tile.zeros, 0, tile.grad_inputs, width.features, block);
      for (int64_t k = 0; k < count; ++k) {
        write_row(tile.grad_inputs + k * width.features, a.node_features, a.grad_h, a.storage, node + k);
      }
    }
  }

  // The gradients of `count` nodes as a whole block of rows.
  const T* block_of_nodes(const T* grad, int64_t count) {
    if (count == products.block_rows()) return grad;
    fill(tile.values[0], products.block_rows() * width.both, T(0));
    std::memcpy(tile.values[0], grad, count * width.both * sizeof(T));
    return tile.values[0];
  }

  void weights_of_nodes(const void* features, const NodeRows<T>& grads) {
    const int64_t last = this->last_node();
    for (int64_t node = this->first_node(); node < last; node += kTile) {
      const int64_t count = last - node < kTile ? last - node : kTile;
      for (int64_t k = 0; k < count; ++k)
        read_row(features, a.storage, node + k, a.node_features, tile.input + k * width.features);
      add_to_weights(tile.input, width.features, a.node_features, grads.of(node), width.both, count, sums.node);
    }
  }

  void add_to_node_bias(const NodeRows<T>& grads) {
    for (int64_t node = this->first_node(); node < this->last_node(); ++node) {
      add_to(sums.node_bias, grads.of(node), width.first);
    }
  }

  WeightGradients<T> sums;
};

// What a wave's edges give to their senders. A slice is some columns of the rows, so that no two threads write to the
// same place and every sum is in the order of the edges.
template <class T> void add_to_senders(const FrameMessageArguments& a, int64_t wave, int64_t slice) {
  const Shared<T> shared(a);
  const Widths<T> width(a);
  const int64_t registers = width.first / kLanes<T>;
  const int64_t first = registers * slice / kFrameMessageSlices * kLanes<T>;
  const int64_t last = registers * (slice + 1) / kFrameMessageSlices * kLanes<T>;
  if (first == last && slice > 0) return;
  for (int64_t chunk = 0; chunk < a.chunks.count; ++chunk) {
    const EdgeRange range = wave_of(a, chunk, wave);
    for (int64_t edge = range.first; edge < range.last; ++edge) {
      const int64_t node = a.graph.sender[a.graph.by_receiver[edge]];
      const int64_t from = chunk * kFrameMessageWave + (edge - range.first);
      const int64_t column = width.first + first, kept = from * width.first + first;
      const NodeTables<T>& to = shared.tables;
      add_to(to.grad_shares.of(node) + column, shared.sender_rows + kept, last - first);
      if (a.second) add_to(to.grad_share_tangents.of(node) + column, shared.sender_row_tangents + kept, last - first);
      if (slice > 0) continue;
      T* grad_pos = static_cast<T*>(a.grad_pos) + 3 * node;
      for (int c = 0; c < 3; ++c) grad_pos[c] += shared.sender_pos[3 * from + c];
    }
  }
}

}  // namespace CLOF_ISA
}  // namespace clof
