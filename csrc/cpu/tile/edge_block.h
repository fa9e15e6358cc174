// The part of the fused edge block that forward and backward pass share: a tile of edges from positions and node
// features to messages and coefficients.
#pragma once

#include "../../math/edge_frame.h"
#include "activation.h"
#include "edge_block_memory.h"

namespace clof {
inline namespace CLOF_ISA {

// One thread's view of a call, for the work on a chunk.
template <class T> struct EdgeBlock {
  using S = Register<T>;

  const FrameMessageArguments& a;
  const int64_t chunk;
  Products products;
  TileRegisters registers;
  Widths<T> width;
  Shared<T> shared;
  Arena arena;
  Tile<T> tile;
  NodeTables<T> tables;

  EdgeBlock(const FrameMessageArguments& a, int64_t worker, int64_t chunk)
      : a(a),
        chunk(chunk),
        products(products_of(a)),
        registers(products),
        width(a),
        shared(a),
        arena(static_cast<char*>(a.workers) + worker * memory_of<T>(a).worker),
        tile(a, arena),
        tables(a.chunks.own_nodes > 0 ? NodeTables<T>(a, a.chunks.own_nodes, first_node(), arena) : shared.tables) {}

  // The nodes of the chunk are [first, last).
  int64_t first_node() const { return a.chunks.first_node[chunk]; }
  int64_t last_node() const { return a.chunks.first_node[chunk + 1]; }

  // Calls body(k) for the registers full of edges of the tile.
  template <class Body> CLOF_HD void for_edges(const Body& body) const {
    for (int k = 0; k < tile.count; k += lanes_of<S>) body(k);
  }

  CLOF_HD Ends<S> ends(int k) const {
    const T* pos = static_cast<const T*>(a.pos);
    return {load3<S>(pos, lookup(tile.receiver, consecutive<S>(k))),
            load3<S>(pos, lookup(tile.sender, consecutive<S>(k)))};
  }

  // Everything up to the vectors, for the edges at positions [first, first + count).
  void run(int64_t first, int64_t count) {
    tile.first = first;
    tile.count = int(count);
    tile.rows = products.whole_blocks(count);
    tile.filled = tile.rows > padded<T>(count) ? tile.rows : int(padded<T>(count));
    load_edges();
    load_geometry();
    edge_mlp();
    coord_mlp();
    make_vectors();
  }

  void load_edges() {
    const Graph& graph = a.graph;
    for (int k = 0; k < tile.filled; ++k) {
      const int32_t e = graph.by_receiver[tile.first + (k < tile.count ? k : tile.count - 1)];
      const int32_t i = graph.receiver[e];
      const T scale = T(1) / T(graph.receiver_start[i + 1] - graph.receiver_start[i]);
      tile.edge[k] = e;
      tile.receiver[k] = i;
      tile.sender[k] = graph.sender[e];
      tile.message_scale[k] = a.message_mean ? scale : T(1);
      tile.vector_scale[k] = a.vector_mean ? scale : T(1);
      tile.weight[k] = T(1);
    }
    prefetch_next();
    if (a.edge_weight == nullptr) return;
    for (int k = 0; k < tile.filled; ++k) {
      with_storage(a.storage, [&](auto example) {
        tile.weight[k] = T(widen(static_cast<const decltype(example)*>(a.edge_weight)[tile.edge[k]]));
      });
    }
  }

  // Asks for the edge features of the tile behind this one, while there is time to wait for them.
  void prefetch_next() const {
    constexpr int64_t line = 64;
    const int64_t row = a.edge_features * bytes_of(a.storage), first = tile.first + kTile;
    const int64_t left = a.graph.num_edges - first, count = left < kTile ? left : kTile;
    for (int64_t k = 0; k < count; ++k) {
      const char* from = static_cast<const char*>(a.edge_attr) + a.graph.by_receiver[first + k] * row;
      for (int64_t byte = 0; byte < row; byte += line) __builtin_prefetch(from + byte);
    }
  }

  void load_geometry() {
    for_edges([&](int k) {
      const FrameParts<S> parts = frame_parts(a.mode, ends(k));
      const Mat3<S>& f = parts.frame;
      const S columns[Tile<T>::kFrame] = {f.a.x, f.a.y, f.a.z, f.b.x, f.b.y, f.b.z, f.c.x, f.c.y, f.c.z};
      for (int c = 0; c < Tile<T>::kFrame; ++c) store(tile.frame + c * kTile + k, columns[c]);
      store(tile.radial + k, dot(parts.d, parts.d));
    });
  }

  void edge_mlp() {
    read_edges(a.edge_attr, tile.input);
    add_shares(tables.shares, tile.radial, tile.values[0]);
    layer(tile.input, width.input, shared.weights.edge, tile.values[0], width.first,
          {tile.values[0], tile.slopes[0], tile.curves[0]});
    for (int k = 1; k < a.num_edge_linears; ++k) {
      hidden_layer(tile.values[k - 1], width.values(k - 1), k - 1, {tile.values[k], tile.slopes[k], tile.curves[k]});
    }
    if (a.att_mlp.weight != nullptr) apply_gate(tile.values[a.num_edge_linears - 1]);
  }

  // Features of the tile's edges.
  void read_edges(const void* features, T* to) const {
    if (a.edge_features == 0) return;
    for (int k = 0; k < tile.rows; ++k) {
      read_row(features, a.storage, tile.edge[k], a.edge_features, to + k * width.input);
    }
  }

  // What the first Linear makes of an edge's nodes and squared length.
  void add_shares(const NodeRows<T>& nodes, const T* radial, T* to) const {
    const T* weight = shared.weights.radial;
    for (int k = 0; k < tile.rows; ++k) {
      const S r(radial[k]);
      const T* receiver = nodes.of(tile.receiver[k]);
      const T* sender = nodes.of(tile.sender[k]) + width.first;
      T* row = to + k * width.first;
      for_registers<T>(width.first, [&](int64_t c) {
        store(row + c, load(receiver + c) + load(sender + c) + r * load(weight + c));
      });
    }
  }

  void hidden_layer(const T* from, int64_t from_width, int number, const Activated<T>& to) {
    const HiddenLinear<T>& linear = shared.weights.hidden[number];
    layer(from, from_width, linear.forward, linear.bias, 0, to);
  }

  // A Linear and the activation.
  void layer(const T* from, int64_t from_width, const Packed<T>& weight, const T* init, int64_t init_stride,
             const Activated<T>& to) {
    const int64_t to_width = padded<T>(weight.columns);
    product(from, from_width, weight, init, init_stride, to.values, to_width, tile.rows,
            [&](int64_t row, int64_t count) { activate(a.activation, to, row * to_width, count * to_width); });
  }

  void apply_gate(const T* message) {
    for (int k = 0; k < tile.count; ++k) {
      tile.gate[k] = dot(message + k * width.hidden, shared.weights.gate, width.hidden) + *shared.weights.gate_bias;
    }
    map_columns(tile.gate, 1, [](S x) { return sigmoid(x); });
    for (int k = 0; k < tile.count; ++k) {
      scale(tile.gated + k * width.hidden, tile.gate[k], message + k * width.hidden, width.hidden);
    }
  }

  // Replaces the numbers of columns, one for each edge.
  template <class Function> CLOF_HD void map_columns(T* columns, int count, const Function& function) {
    for (int c = 0; c < count; ++c) {
      for_edges([&](int k) { store(columns + c * kTile + k, function(load(columns + c * kTile + k))); });
    }
  }

  void coord_mlp() {
    if (a.num_coord_linears == 2) {
      hidden_layer(tile.gated, width.hidden, num_hidden(a) - 1, {tile.coord, tile.coord_slopes, tile.coord_curves});
    }
    for (int k = 0; k < tile.count; ++k) {
      for (int c = 0; c < a.num_axes; ++c) {
        const T* weight = shared.weights.head + c * width.coord;
        tile.coefficients[c * kTile + k] =
            dot(tile.coord + k * width.coord, weight, width.coord) + shared.weights.head_bias[c];
      }
    }
    if (a.tanh) map_columns(tile.coefficients, a.num_axes, [](S x) { return hyperbolic_tangent(x); });
  }

  CLOF_HD Vec3<S> load_column3(const T* columns, int k) const {
    return {load(columns + k), load(columns + kTile + k), load(columns + 2 * kTile + k)};
  }
  CLOF_HD void store_column3(T* columns, int k, Vec3<S> v) const {
    store(columns + k, v.x);
    store(columns + kTile + k, v.y);
    store(columns + 2 * kTile + k, v.z);
  }
  CLOF_HD Vec3<S> axis(int number, int k) const { return load_column3(tile.frame + 3 * number * kTile, k); }
  CLOF_HD S coefficient(int number, int k) const { return load(tile.coefficients + number * kTile + k); }

  // Before the clamp.
  void make_vectors() {
    for_edges([&](int k) {
      Vec3<S> sum = coefficient(0, k) * axis(0, k);
      for (int c = 1; c < a.num_axes; ++c) sum = sum + coefficient(c, k) * axis(c, k);
      store_column3(tile.vector, k, sum);
    });
  }

  CLOF_HD T clamped(T x) const { return at_most(T(a.clamp), at_least(T(-a.clamp), x)); }
};

}  // namespace CLOF_ISA
}  // namespace clof
