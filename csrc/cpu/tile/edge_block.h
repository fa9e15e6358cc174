// Memory of the fused edge block, and the part that forward and backward pass share: a tile of edges from positions and
// node features to messages and coefficients.
#pragma once

#include "../../math/edge_frame.h"
#include "activation.h"
#include "product.h"
#include "rows.h"

namespace clof {
inline namespace CLOF_ISA {

// Edges in a tile: a multiple of the products' blocks of rows and of every register's number of lanes. Its activations
// stay in the second-level cache, its weights' gradients are read and written once.
constexpr int64_t kTile = 96;
static_assert(kTile % kBlockRows == 0 && kTile % kTilesBlockRows == 0);
// Linears between hidden features: all but the first of edge_mlp, the first of two of coord_mlp.
constexpr int kMaxHiddenLinears = kMaxEdgeLinears + kMaxCoordLinears - 2;

// Widths of rows with their padding.
template <class T> struct Widths {
  int64_t hidden, first, coord, features, input, both;

  explicit Widths(const FrameMessageArguments& a)
      : hidden(padded<T>(a.hidden)),
        first(padded<T>(a.first)),
        coord(padded<T>(a.coord_hidden)),
        features(padded<T>(a.node_features)),
        input(padded<T>(a.edge_features)),
        both(2 * first) {}

  int64_t widest_input() const { return larger(input, features); }
  int64_t widest_hidden() const { return larger(larger(hidden, first), coord); }
  int64_t widest() const { return larger(widest_hidden(), widest_input()); }
  // With both shares of a node.
  int64_t longest() const { return larger(widest(), both); }
  // Whether a row of what products read or make has padding.
  bool any_padding(const FrameMessageArguments& a) const {
    return hidden != a.hidden || first != a.first || coord != a.coord_hidden || features != a.node_features ||
           input != a.edge_features;
  }
  // Of what the Linear `layer` of edge_mlp makes.
  int64_t values(int layer) const { return layer == 0 ? first : hidden; }

  static int64_t larger(int64_t x, int64_t y) { return x > y ? x : y; }
};

inline int num_hidden(const FrameMessageArguments& a) { return a.num_edge_linears - 1 + a.num_coord_linears - 1; }
inline const LinearArguments& hidden_linear(const FrameMessageArguments& a, int layer) {
  return layer < a.num_edge_linears - 1 ? a.edge_mlp[layer + 1] : a.coord_mlp[0];
}
// Features that a Linear reads and makes.
struct LinearSize {
  int64_t inputs, outputs;
};
inline LinearSize hidden_size(const FrameMessageArguments& a, int layer) {
  if (layer == a.num_edge_linears - 1) return {a.hidden, a.coord_hidden};
  return {layer == 0 ? a.first : a.hidden, a.hidden};
}
inline const LinearArguments& head_linear(const FrameMessageArguments& a) {
  return a.coord_mlp[a.num_coord_linears - 1];
}

// A Linear between hidden features.
template <class T> struct HiddenLinear {
  Packed<T> forward, backward;
  T* bias;
};

// The weights, in the order in which products read them. The first Linear is in three parts: `node` makes both the
// receiver's and the sender's share, next to each other, `edge` that of an edge's features, `radial` that of its
// squared length, which no product rounds.
template <class T> struct Weights {
  Packed<T> node, edge;
  T* node_bias;  // (2 first,), zeros in the sender's half
  T* radial;     // (first,)
  HiddenLinear<T> hidden[kMaxHiddenLinears];
  T* gate;  // (H,)
  T* head;  // (axes, coord_hidden)
  T* gate_bias;
  T* head_bias;  // (axes,)
  // For the backward pass.
  Packed<T> node_backward, edge_backward;
  int64_t vector_bytes;  // of everything but matrices, which comes first

  Weights(const FrameMessageArguments& a, Arena& arena) {
    const Widths<T> width(a);
    const Products products = products_of(a);
    const auto packed = [&](int64_t depth, int64_t columns) {
      T* data = arena.take<T>(Packed<T>::size(depth, columns));
      return Packed<T>{data, depth, columns, products, arena.take<BFloat16>(products.factor_size(columns, depth))};
    };
    node_bias = arena.take<T>(width.both);
    radial = arena.take<T>(width.first);
    for (int layer = 0; layer < num_hidden(a); ++layer) {
      hidden[layer].bias = arena.take<T>(padded<T>(hidden_size(a, layer).outputs));
    }
    gate = arena.take<T>(width.hidden);
    head = arena.take<T>(a.num_axes * width.coord);
    gate_bias = arena.take<T>(1);
    head_bias = arena.take<T>(a.num_axes);
    vector_bytes = arena.used();
    node = packed(a.node_features, width.both);
    edge = packed(a.edge_features, a.first);
    for (int layer = 0; layer < num_hidden(a); ++layer) {
      const LinearSize size = hidden_size(a, layer);
      hidden[layer].forward = packed(size.inputs, size.outputs);
      if (a.backward) hidden[layer].backward = packed(size.outputs, size.inputs);
    }
    if (!a.backward) return;
    node_backward = packed(width.both, a.node_features);
    edge_backward = packed(a.first, a.edge_features);
  }
};

// Sums of weights' gradients, inputs by outputs; the same members as Weights. Those that nodes add to come first.
template <class T> struct WeightGradients {
  T *node, *node_bias, *edge, *radial;
  struct {
    T *weight, *bias;
  } hidden[kMaxHiddenLinears];
  T *gate, *head, *gate_bias, *head_bias;

  WeightGradients(const FrameMessageArguments& a, Arena& arena) {
    const Widths<T> width(a);
    const Products products = products_of(a);
    node = arena.take<T>(products.sum_rows(a.node_features) * width.both);
    node_bias = arena.take<T>(width.first);
    edge = arena.take<T>(products.sum_rows(a.edge_features) * width.first);
    radial = arena.take<T>(width.first);
    for (int layer = 0; layer < num_hidden(a); ++layer) {
      const LinearSize size = hidden_size(a, layer);
      const int64_t outputs = padded<T>(size.outputs);
      hidden[layer] = {arena.take<T>(products.sum_rows(size.inputs) * outputs), arena.take<T>(outputs)};
    }
    gate = arena.take<T>(width.hidden);
    head = arena.take<T>(a.num_axes * width.coord);
    gate_bias = arena.take<T>(1);
    head_bias = arena.take<T>(a.num_axes);
  }

  static WeightGradients at(const FrameMessageArguments& a, char* memory) {
    Arena arena(memory);
    return WeightGradients(a, arena);
  }

  static int64_t bytes(const FrameMessageArguments& a) {
    Arena arena(nullptr);
    WeightGradients(a, arena);
    return arena.used();
  }

  int64_t node_bytes() const { return reinterpret_cast<char*>(edge) - reinterpret_cast<char*>(node); }
};

// What all threads share.
template <class T> struct Shared {
  Arena arena;
  Weights<T> weights;
  T* node;  // (N, 2 first): the receiver's and the sender's share of the first Linear
  // For the backward pass.
  T* grad_node = nullptr;    // (N, 2 first)
  char* group_sums;          // WeightGradients of each group of chunks, one behind the other
  T* sender_rows = nullptr;  // (chunks, kFrameMessageWave, first): a wave's edges' share of their senders' `grad_node`
  T* sender_pos = nullptr;   // (chunks, kFrameMessageWave, 3): the same for the gradient of positions
  // For second derivatives: the same of tangents, and (N, hidden) messages' tangents.
  T *node_tangent, *grad_node_tangent, *sender_row_tangents, *message_tangent;

  explicit Shared(const FrameMessageArguments& a) : arena(a.shared), weights(a, arena) {
    const Widths<T> width(a);
    node = arena.take<T>(a.graph.num_nodes * width.both);
    if (!a.backward) return;
    grad_node = arena.take<T>(a.graph.num_nodes * width.both);
    group_sums = arena.take<char>(sum_groups(a.chunks.count) * WeightGradients<T>::bytes(a));
    if (a.second) {
      node_tangent = arena.take<T>(a.graph.num_nodes * width.both);
      grad_node_tangent = arena.take<T>(a.graph.num_nodes * width.both);
      message_tangent = arena.take<T>(a.graph.num_nodes * width.hidden);
    }
    if (a.chunks.closed) return;
    sender_rows = arena.take<T>(a.chunks.count * kFrameMessageWave * width.first);
    if (a.second) sender_row_tangents = arena.take<T>(a.chunks.count * kFrameMessageWave * width.first);
    sender_pos = arena.take<T>(a.chunks.count * kFrameMessageWave * 3);
  }

  char* sums_of_group(const FrameMessageArguments& a, int64_t group) const {
    return group_sums + group * WeightGradients<T>::bytes(a);
  }
};

// A tile of edges. Rows are padded to whole registers, the number of rows to whole blocks of the products; what stands
// behind the last edge repeats its nodes, and its results are not used.
template <class T> struct Tile {
  static constexpr int kFrame = 9;

  int64_t first;  // position of the first edge in the order by receiver
  int count;      // edges
  int rows;       // count rounded up to whole blocks
  int filled;     // count rounded up to whole blocks and whole registers
  int32_t *edge, *receiver, *sender;
  T *radial, *frame, *coefficients, *vector, *gate;  // columns of kTile numbers: frame 9, coefficients and vector 3
  T *weight, *message_scale, *vector_scale;          // of each edge: edge_weight or 1, and 1 / n_i for a mean, else 1
  T* input;                                          // edge features
  T* values[kMaxEdgeLinears];                        // after each activation
  T* gated;
  T* coord;
  T* sum;  // one row: a receiver's message
  // For the backward pass.
  T* slopes[kMaxEdgeLinears];
  T* coord_slopes;
  T *grad, *other_grad;
  T* grad_inputs;                                  // gradient of edge_attr, or of a block of nodes' features
  T *grad_vector, *grad_coefficients, *grad_ends;  // columns: 3, 3 and 6
  T* grad_radial;
  T* grad_message;  // one row: the receiver's
  T* zeros;         // one row, of zeros
  char* sums;       // WeightGradients of a piece of a chunk's work
  OuterRoom outer;  // for the factors of a weight's gradient
  // For second derivatives: those of activations, which become them times what entered the activation's tangent, and
  // the tangents of the members above.
  T *curves[kMaxEdgeLinears], *coord_curves;
  T *tangents[kMaxEdgeLinears], *gated_tangent, *coord_tangent, *input_tangent;
  T *radial_tangent, *frame_tangent, *coefficient_tangents, *vector_tangent, *gate_tangent, *weight_tangent;
  T *grad_tangent, *other_grad_tangent;
  T *grad_vector_tangent, *grad_coefficient_tangents, *grad_radial_tangent;

  Tile(const FrameMessageArguments& a, Arena& arena) {
    const Widths<T> width(a);
    const auto indices = [&] { return arena.take<int32_t>(kTile); };
    const auto columns = [&](int count) { return arena.take<T>(count * kTile); };
    const auto matrix = [&](int64_t width) { return arena.take<T>(kTile * width); };
    edge = indices();
    receiver = indices();
    sender = indices();
    radial = columns(1);
    frame = columns(kFrame);
    coefficients = columns(3);
    vector = columns(3);
    gate = columns(1);
    weight = columns(1);
    message_scale = columns(1);
    vector_scale = columns(1);
    input = matrix(width.widest_input());
    sum = arena.take<T>(width.hidden);
    const int kept = a.backward ? a.num_edge_linears : 2;
    for (int layer = 0; layer < a.num_edge_linears; ++layer) {
      values[layer] =
          layer < kept ? matrix(Widths<T>::larger(width.values(layer), width.hidden)) : values[layer % kept];
    }
    gated = a.att_mlp.weight == nullptr ? values[a.num_edge_linears - 1] : matrix(width.hidden);
    coord = a.num_coord_linears == 1 ? gated : matrix(width.coord);
    for (T*& slope : slopes) slope = nullptr;
    for (T*& curve : curves) curve = nullptr;
    coord_slopes = coord_curves = nullptr;
    if (!a.backward) return;
    for (int layer = 0; layer < a.num_edge_linears; ++layer) slopes[layer] = matrix(width.values(layer));
    if (a.num_coord_linears == 2) coord_slopes = matrix(width.coord);
    grad = matrix(width.widest_hidden());
    other_grad = matrix(width.widest_hidden());
    grad_inputs = matrix(width.widest_input());
    grad_vector = columns(3);
    grad_coefficients = columns(3);
    grad_ends = columns(6);
    grad_radial = columns(1);
    grad_message = arena.take<T>(width.hidden);
    zeros = arena.take<T>(width.longest());
    sums = arena.take<char>(WeightGradients<T>::bytes(a));
    outer = OuterRoom(products_of(a), kTile, width.widest(), width.longest(), arena);
    if (!a.second) return;
    for (int layer = 0; layer < a.num_edge_linears; ++layer) {
      curves[layer] = matrix(width.values(layer));
      tangents[layer] = matrix(width.values(layer));
    }
    gated_tangent = a.att_mlp.weight == nullptr ? tangents[a.num_edge_linears - 1] : matrix(width.hidden);
    coord_tangent = a.num_coord_linears == 1 ? gated_tangent : matrix(width.coord);
    if (a.num_coord_linears == 2) coord_curves = matrix(width.coord);
    input_tangent = matrix(width.widest_input());
    radial_tangent = columns(1);
    frame_tangent = columns(kFrame);
    coefficient_tangents = columns(3);
    vector_tangent = columns(3);
    gate_tangent = columns(1);
    weight_tangent = columns(1);
    grad_tangent = matrix(width.widest_hidden());
    other_grad_tangent = matrix(width.widest_hidden());
    grad_vector_tangent = columns(3);
    grad_coefficient_tangents = columns(3);
    grad_radial_tangent = columns(1);
  }
};

template <class T> FrameMessageMemory memory_of(const FrameMessageArguments& a) {
  Arena arena(nullptr);
  Tile<T>(a, arena);
  return {Shared<T>(a).arena.used(), arena.used()};
}

// One thread's view of a call.
template <class T> struct EdgeBlock {
  using S = Register<T>;

  const FrameMessageArguments& a;
  Products products;
  TileRegisters registers;
  Widths<T> width;
  Shared<T> shared;
  Arena arena;
  Tile<T> tile;

  EdgeBlock(const FrameMessageArguments& a, int64_t worker)
      : a(a),
        products(products_of(a)),
        registers(products),
        width(a),
        shared(a),
        arena(static_cast<char*>(a.workers) + worker * memory_of<T>(a).worker),
        tile(a, arena) {}

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
    add_shares(shared.node, tile.radial, tile.values[0]);
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
  void add_shares(const T* nodes, const T* radial, T* to) const {
    const T* weight = shared.weights.radial;
    for (int k = 0; k < tile.rows; ++k) {
      const S r(radial[k]);
      const T* receiver = nodes + tile.receiver[k] * width.both;
      const T* sender = nodes + tile.sender[k] * width.both + width.first;
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
