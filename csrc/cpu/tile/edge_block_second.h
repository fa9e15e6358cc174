// Second derivatives of the fused edge block: the backward pass, differentiated in a direction of its inputs h, pos,
// edge_attr and edge_weight, with its cotangents and weights held. Every number x of the forward and the backward pass
// is computed again with its derivative in that direction, its tangent. Tangents of the results are the gradients of
// the cotangents; tangents of the gradients are, since second derivatives are symmetric, the gradients of the inputs
// and of the weights.
#pragma once

#include "../../math/dual.h"
#include "edge_block_backward.h"
#include "tangents.h"

namespace clof {
inline namespace CLOF_ISA {

template <class T> struct SecondBlock : BackwardBlock<T> {
  using Base = BackwardBlock<T>;
  using Base::a, Base::chunk, Base::row, Base::shared, Base::sums, Base::tables, Base::tile, Base::width;
  using S = Register<T>;
  using D = Dual<S>;
  using Both = RowsWithTangents<T>;

  using Base::Base;

  void clear() {
    Base::clear();
    const int64_t first = this->first_node(), count = this->last_node() - first;
    fill(tables.grad_share_tangents.of(first), count * width.both, T(0));
    fill(tables.message_tangents.of(first), count * width.hidden, T(0));
    fill(static_cast<T*>(a.tangents.vector) + 3 * first, 3 * count, T(0));
  }

  void edges(int64_t wave) {
    this->clear_sums(this->of_edges());
    const EdgeRange range = wave_of(a, chunk, wave);
    for (int64_t edge = range.first; edge < range.last; edge += kTile) {
      const int64_t left = range.last - edge;
      this->run(edge, left < kTile ? left : kTile);
      forward_tangents();
      load_gradients();
      coord_mlp_second();
      if (a.att_mlp.weight != nullptr) gate_second();
      edge_mlp_second();
      geometry_second();
      results_to_receivers();
      this->to_receivers();
      this->add_to_nodes(tables.grad_share_tangents, tile.receiver, 0, tile.grad_tangent);
      this->to_senders(edge - range.first);
      if (a.chunks.closed) this->add_to_nodes(tables.grad_share_tangents, tile.sender, 1, tile.grad_tangent);
      else this->keep_for_senders(shared.sender_row_tangents, edge - range.first, tile.grad_tangent);
    }
  }

  // Columns of numbers and of their tangents.
  CLOF_HD D dual(const T* values, const T* tangents, int k) const { return {load(values + k), load(tangents + k)}; }
  CLOF_HD Vec3<D> dual3(const T* values, const T* tangents, int k) const {
    return {dual(values, tangents, k), dual(values, tangents, kTile + k), dual(values, tangents, 2 * kTile + k)};
  }
  CLOF_HD Vec3<D> axis(int number, int k) const {
    return dual3(tile.frame + 3 * number * kTile, tile.frame_tangent + 3 * number * kTile, k);
  }
  CLOF_HD D coefficient(int number, int k) const {
    return dual(tile.coefficients + number * kTile, tile.coefficient_tangents + number * kTile, k);
  }
  CLOF_HD Vec3<S> tangent(const Vec3<D>& v) const { return {v.x.tangent, v.y.tangent, v.z.tangent}; }

  CLOF_HD Ends<D> ends(int k) const {
    const Ends<S> x = Base::ends(k);
    const T* tangents = static_cast<const T*>(a.tangents.pos);
    const auto with = [&](const Vec3<S>& v, const int32_t* node) {
      const Vec3<S> t = load3<S>(tangents, lookup(node, consecutive<S>(k)));
      return Vec3<D>{{v.x, t.x}, {v.y, t.y}, {v.z, t.z}};
    };
    return {with(x.i, tile.receiver), with(x.j, tile.sender)};
  }

  // Of everything that run() computed.
  void forward_tangents() {
    load_weight_tangents();
    this->for_edges([&](int k) {
      const FrameParts<D> parts = frame_parts(a.mode, ends(k));
      const Mat3<D>& f = parts.frame;
      const D columns[Tile<T>::kFrame] = {f.a.x, f.a.y, f.a.z, f.b.x, f.b.y, f.b.z, f.c.x, f.c.y, f.c.z};
      for (int c = 0; c < Tile<T>::kFrame; ++c) store(tile.frame_tangent + c * kTile + k, columns[c].tangent);
      store(tile.radial_tangent + k, dot(parts.d, parts.d).tangent);
    });
    edge_mlp_tangents();
    if (a.att_mlp.weight != nullptr) gate_tangents();
    coord_mlp_tangents();
    this->for_edges([&](int k) {
      Vec3<D> sum = coefficient(0, k) * axis(0, k);
      for (int c = 1; c < a.num_axes; ++c) sum = sum + coefficient(c, k) * axis(c, k);
      this->store_column3(tile.vector_tangent, k, tangent(sum));
    });
  }

  void load_weight_tangents() {
    for (int k = 0; k < tile.filled; ++k) {
      tile.weight_tangent[k] = T(0);
      if (a.tangents.edge_weight == nullptr) continue;
      with_storage(a.storage, [&](auto example) {
        using U = decltype(example);
        tile.weight_tangent[k] = T(widen(static_cast<const U*>(a.tangents.edge_weight)[tile.edge[k]]));
      });
    }
  }

  void edge_mlp_tangents() {
    this->add_shares(tables.share_tangents, tile.radial_tangent, tile.tangents[0]);
    const auto bent = [&](int64_t row, int64_t count) { bend_layer(0, row * width.first, count * width.first); };
    if (has_edge_tangents()) {
      this->read_edges(a.tangents.edge_attr, tile.input_tangent);
      product(tile.input_tangent, width.input, shared.weights.edge, tile.tangents[0], width.first, tile.tangents[0],
              width.first, tile.rows, bent);
    } else {
      bent(0, tile.rows);
    }
    for (int layer = 1; layer < a.num_edge_linears; ++layer) {
      const int64_t to_width = width.values(layer);
      product(tile.tangents[layer - 1], width.values(layer - 1), shared.weights.hidden[layer - 1].forward, tile.zeros,
              0, tile.tangents[layer], to_width, tile.rows,
              [&](int64_t row, int64_t count) { bend_layer(layer, row * to_width, count * to_width); });
    }
  }

  bool has_edge_tangents() const { return a.edge_features > 0 && a.tangents.edge_attr != nullptr; }

  void bend_layer(int layer, int64_t at, int64_t count) {
    bend(tile.tangents[layer] + at, tile.slopes[layer] + at, tile.curves[layer] + at, count);
  }

  void gate_tangents() {
    const T* message = tile.values[a.num_edge_linears - 1];
    const T* message_tangent = tile.tangents[a.num_edge_linears - 1];
    for (int k = 0; k < tile.count; ++k) {
      const T gate = tile.gate[k];
      const T by_input = dot(message_tangent + k * width.hidden, shared.weights.gate, width.hidden);
      tile.gate_tangent[k] = gate * (1 - gate) * by_input;
      T* to = row(tile.gated_tangent, k);
      scale(to, gate, message_tangent + k * width.hidden, width.hidden);
      add_scaled(to, tile.gate_tangent[k], message + k * width.hidden, width.hidden);
    }
  }

  void coord_mlp_tangents() {
    if (a.num_coord_linears == 2) {
      product(tile.gated_tangent, width.hidden, shared.weights.hidden[num_hidden(a) - 1].forward, tile.zeros, 0,
              tile.coord_tangent, width.coord, tile.rows, [&](int64_t row, int64_t count) {
                const int64_t at = row * width.coord;
                bend(tile.coord_tangent + at, tile.coord_slopes + at, tile.coord_curves + at, count * width.coord);
              });
    }
    for (int c = 0; c < a.num_axes; ++c) {
      const T* weight = shared.weights.head + c * width.coord;
      for (int k = 0; k < tile.count; ++k) {
        const T tangent = dot(tile.coord_tangent + k * width.coord, weight, width.coord),
                q = tile.coefficients[c * kTile + k];
        tile.coefficient_tangents[c * kTile + k] = a.tanh ? (1 - q * q) * tangent : tangent;
      }
    }
  }

  // Of an edge's vector, where it is not cut.
  CLOF_HD T clamped_tangent(int c, int k) const {
    const T t = tile.vector[c * kTile + k];
    return t == this->clamped(t) ? tile.vector_tangent[c * kTile + k] : T(0);
  }

  // As in the backward pass, with tangents; of grad_edge_weight these alone are kept.
  void load_gradients() {
    load_message_gradients();
    load_vector_gradients();
    this->for_edges([&](int k) {
      const Vec3<D> grad = dual3(tile.grad_vector, tile.grad_vector_tangent, k);
      for (int c = 0; c < a.num_axes; ++c) {
        D by_coefficient = dot(grad, axis(c, k));
        const D q = coefficient(c, k);
        if (a.tanh) by_coefficient = by_coefficient * (D(T(1)) - q * q);
        store(tile.grad_coefficients + c * kTile + k, by_coefficient.value);
        store(tile.grad_coefficient_tangents + c * kTile + k, by_coefficient.tangent);
      }
    });
  }

  void load_message_gradients() {
    for (int k = 0; k < tile.count; ++k) {
      if (k == 0 || tile.receiver[k] != tile.receiver[k - 1]) {
        read_row(a.grad_message, a.storage, tile.receiver[k], a.hidden, tile.grad_message);
      }
      scale(row(tile.grad, k), tile.weight[k] * tile.message_scale[k], tile.grad_message, width.hidden);
      scale(row(tile.grad_tangent, k), tile.weight_tangent[k] * tile.message_scale[k], tile.grad_message, width.hidden);
      if (a.grad_edge_weight != nullptr) {
        const T along = dot(tile.grad_message, row(tile.gated_tangent, k), width.hidden);
        tile.grad_radial[k] = tile.message_scale[k] * along;
      }
    }
    this->clear_behind(tile.grad, width.hidden);
    this->clear_behind(tile.grad_tangent, width.hidden);
  }

  void load_vector_gradients() {
    for (int k = 0; k < tile.count; ++k) {
      const T* grad = static_cast<const T*>(a.grad_vector) + 3 * int64_t(tile.receiver[k]);
      T along = 0;
      for (int c = 0; c < 3; ++c) {
        const T t = tile.vector[c * kTile + k];
        const T kept = t == this->clamped(t) ? tile.vector_scale[k] * grad[c] : T(0);
        along += grad[c] * clamped_tangent(c, k);
        tile.grad_vector[c * kTile + k] = tile.weight[k] * kept;
        tile.grad_vector_tangent[c * kTile + k] = tile.weight_tangent[k] * kept;
      }
      if (a.grad_edge_weight != nullptr) {
        this->write_value(a.grad_edge_weight, tile.edge[k], tile.grad_radial[k] + tile.vector_scale[k] * along);
      }
    }
  }

  void coord_mlp_second() {
    if (a.num_axes == 3) head_second<3>();
    else head_second<1>();
    this->add_to_head_bias(tile.grad_coefficient_tangents);
    if (a.num_coord_linears == 1) return;
    this->clear_behind(tile.other_grad, width.coord);
    this->clear_behind(tile.other_grad_tangent, width.coord);
    linear_second({tile.gated, tile.gated_tangent}, {tile.other_grad, tile.other_grad_tangent}, num_hidden(a) - 1,
                  {tile.grad, tile.grad_tangent}, width.hidden, {tile.grad, tile.grad_tangent}, nullptr, nullptr);
  }

  // The last Linear, which makes the coefficients, and the activation before it, if there is one.
  template <int Axes> void head_second() {
    const bool activated = a.num_coord_linears == 2;
    T* const to = activated ? tile.other_grad : tile.grad;
    T* const to_tangent = activated ? tile.other_grad_tangent : tile.grad_tangent;
    for_registers<T>(width.coord, [&](int64_t column) {
      S weight[Axes], sum[Axes];
      for (int c = 0; c < Axes; ++c) {
        weight[c] = load(shared.weights.head + c * width.coord + column);
        sum[c] = load(sums.head + c * width.coord + column);
      }
      for (int k = 0; k < tile.count; ++k) {
        const int64_t at = k * width.coord + column;
        const S input = load(tile.coord + at), input_tangent = load(tile.coord_tangent + at);
        S by_input(T(0)), tangent(T(0));
        for (int c = 0; c < Axes; ++c) {
          const S grad(tile.grad_coefficients[c * kTile + k]);
          const S grad_tangent(tile.grad_coefficient_tangents[c * kTile + k]);
          by_input = by_input + grad * weight[c];
          tangent = tangent + grad_tangent * weight[c];
          sum[c] = sum[c] + grad_tangent * input + grad * input_tangent;
        }
        if (activated) {
          const S slope = load(tile.coord_slopes + at);
          store(to_tangent + at, tangent * slope + by_input * load(tile.coord_curves + at));
          store(to + at, by_input * slope);
        } else {
          store(to_tangent + at, load(to_tangent + at) + tangent);
          store(to + at, load(to + at) + by_input);
        }
      }
      for (int c = 0; c < Axes; ++c) store(sums.head + c * width.coord + column, sum[c]);
    });
  }

  // Of the hidden Linear `layer`: tangents of its weights' gradients, and to = init + the gradient of its inputs,
  // through the activation that made them, if slopes are given.
  void linear_second(const Both& inputs, const Both& grad, int layer, const Both& init, int64_t init_stride,
                     const Both& to, const T* slopes, const T* slope_tangents) {
    const LinearSize size = hidden_size(a, layer);
    const int64_t from_width = padded<T>(size.inputs), grad_width = padded<T>(size.outputs);
    add_to_weights(inputs, from_width, size.inputs, grad, grad_width, sums.hidden[layer].weight);
    add_rows(sums.hidden[layer].bias, grad.tangents, tile.count, grad_width);
    const Packed<T>& weight = shared.weights.hidden[layer].backward;
    product(grad.values, grad_width, weight, init.values, init_stride, to.values, from_width, tile.rows);
    product(grad.tangents, grad_width, weight, init.tangents, init_stride, to.tangents, from_width, tile.rows,
            [&](int64_t first, int64_t count) {
              const int64_t at = first * from_width;
              if (slopes != nullptr) unbend<T>(to, slopes, slope_tangents, at, count * from_width);
            });
  }

  // The tangent of the product of inputs by gradients.
  void add_to_weights(const Both& inputs, int64_t stride, int64_t count, const Both& grad, int64_t grad_width, T* to) {
    Base::add_to_weights(inputs.values, stride, count, grad.tangents, grad_width, tile.count, to);
    if (inputs.tangents == nullptr) return;
    Base::add_to_weights(inputs.tangents, stride, count, grad.values, grad_width, tile.count, to);
  }

  void gate_second() {
    const int last = a.num_edge_linears - 1;
    const T* weight = shared.weights.gate;
    for (int k = 0; k < tile.count; ++k) {
      const T *message = tile.values[last] + k * width.hidden, *tangent = tile.tangents[last] + k * width.hidden;
      T *grad = row(tile.grad, k), *grad_tangent = row(tile.grad_tangent, k);
      const Dual<T> gate{tile.gate[k], tile.gate_tangent[k]};
      const Dual<T> by_gate{dot(grad, message, width.hidden),
                            dot(grad_tangent, message, width.hidden) + dot(grad, tangent, width.hidden)};
      const Dual<T> by_input = by_gate * gate * (Dual<T>(T(1)) - gate);
      *sums.gate_bias += by_input.tangent;
      add_scaled(sums.gate, by_input.tangent, message, width.hidden);
      add_scaled(sums.gate, by_input.value, tangent, width.hidden);
      scale(grad_tangent, gate.value, grad_tangent, width.hidden);
      add_scaled(grad_tangent, gate.tangent, grad, width.hidden);
      add_scaled(grad_tangent, by_input.tangent, weight, width.hidden);
      scale(grad, gate.value, grad, width.hidden);
      add_scaled(grad, by_input.value, weight, width.hidden);
    }
  }

  // From the message to the edge's inputs; tile.grad and its tangent end as rows of width.first.
  void edge_mlp_second() {
    const int last = a.num_edge_linears - 1;
    unbend<T>({tile.grad, tile.grad_tangent}, tile.slopes[last], tile.curves[last], 0, tile.rows * width.hidden);
    for (int layer = last; layer > 0; --layer) {
      linear_second({tile.values[layer - 1], tile.tangents[layer - 1]}, {tile.grad, tile.grad_tangent}, layer - 1,
                    {tile.zeros, tile.zeros}, 0, {tile.other_grad, tile.other_grad_tangent}, tile.slopes[layer - 1],
                    tile.curves[layer - 1]);
      std::swap(tile.grad, tile.other_grad);
      std::swap(tile.grad_tangent, tile.other_grad_tangent);
    }
    add_to_weights({tile.input, has_edge_tangents() ? tile.input_tangent : nullptr}, width.input, a.edge_features,
                   {tile.grad, tile.grad_tangent}, width.first, sums.edge);
    add_rows_scaled(sums.radial, tile.radial, tile.grad_tangent, tile.count, width.first);
    add_rows_scaled(sums.radial, tile.radial_tangent, tile.grad, tile.count, width.first);
    for (int k = 0; k < tile.count; ++k) {
      tile.grad_radial[k] = dot(tile.grad + k * width.first, shared.weights.radial, width.first);
      tile.grad_radial_tangent[k] = dot(tile.grad_tangent + k * width.first, shared.weights.radial, width.first);
    }
    if (a.grad_edge_attr != nullptr) this->grad_edge_attr(tile.grad_tangent);
  }

  void geometry_second() {
    this->for_edges([&](int k) {
      const Ends<D> x = ends(k);
      const FrameParts<D> parts = frame_parts(a.mode, x);
      const Vec3<D> grad = dual3(tile.grad_vector, tile.grad_vector_tangent, k);
      const D zero(T(0));
      const Vec3<D> none{zero, zero, zero};
      Mat3<D> by_frame{coefficient(0, k) * grad, none, none};
      if (a.num_axes == 3) {
        by_frame.b = coefficient(1, k) * grad;
        by_frame.c = coefficient(2, k) * grad;
      }
      const Vec3<D> by_d = (D(T(2)) * dual(tile.grad_radial, tile.grad_radial_tangent, k)) * parts.d;
      const Ends<D> by_ends = edge_frame_vjp(parts, x, by_frame);
      this->store_column3(tile.grad_ends, k, tangent(by_ends.i + by_d));
      this->store_column3(tile.grad_ends + 3 * kTile, k, tangent(by_ends.j - by_d));
    });
  }

  // Tangents of messages and vectors, summed.
  void results_to_receivers() {
    for (int k = 0; k < tile.count; ++k) {
      const int64_t node = tile.receiver[k];
      T* message = tables.message_tangents.of(node);
      add_scaled(message, tile.weight[k] * tile.message_scale[k], row(tile.gated_tangent, k), width.hidden);
      add_scaled(message, tile.weight_tangent[k] * tile.message_scale[k], row(tile.gated, k), width.hidden);
      T* vector = static_cast<T*>(a.tangents.vector) + 3 * node;
      for (int c = 0; c < 3; ++c) {
        const T t = this->clamped(tile.vector[c * kTile + k]);
        vector[c] += tile.vector_scale[k] * (tile.weight[k] * clamped_tangent(c, k) + tile.weight_tangent[k] * t);
      }
    }
  }

  void nodes() {
    this->clear_sums(this->of_nodes());
    this->features_of_nodes(tables.grad_share_tangents);
    this->weights_of_nodes(a.h, tables.grad_share_tangents);
    this->weights_of_nodes(a.tangents.h, tables.grad_shares);
    this->add_to_node_bias(tables.grad_share_tangents);
    for (int64_t node = this->first_node(); node < this->last_node(); ++node) {
      write_row(tables.message_tangents.of(node), a.hidden, a.tangents.message, a.storage, node);
    }
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
