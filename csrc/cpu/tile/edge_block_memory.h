// Memory of the fused edge block: of its weights and their gradients, of nodes, and of a tile of edges.
#pragma once

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

// Rows of nodes from `first` on.
template <class T> struct NodeRows {
  T* rows;
  int64_t first, width;

  T* of(int64_t node) const { return rows + (node - first) * width; }
};

// What a pass keeps of nodes: of all, or of those of a chunk.
template <class T> struct NodeTables {
  NodeRows<T> shares;  // of 2 first: the receiver's and the sender's share of the first Linear
  // For the backward pass.
  NodeRows<T> grad_shares;
  // For second derivatives: the same of tangents, and messages' tangents.
  NodeRows<T> share_tangents, grad_share_tangents, message_tangents;

  NodeTables(const FrameMessageArguments& a, int64_t count, int64_t first, Arena& arena) {
    const Widths<T> width(a);
    const auto table = [&](int64_t row) { return NodeRows<T>{arena.take<T>(count * row), first, row}; };
    shares = table(width.both);
    if (!a.backward) return;
    grad_shares = table(width.both);
    if (!a.second) return;
    share_tangents = table(width.both);
    grad_share_tangents = table(width.both);
    message_tangents = table(width.hidden);
  }
};

// What all threads share.
template <class T> struct Shared {
  Arena arena;
  Weights<T> weights;
  NodeTables<T> tables;  // empty where each thread has its own
  // For the backward pass.
  char* group_sums;          // WeightGradients of each group of chunks, one behind the other
  T* sender_rows = nullptr;  // (chunks, kFrameMessageWave, first): a wave's edges' share of their senders' gradients
  T* sender_pos = nullptr;   // (chunks, kFrameMessageWave, 3): the same for the gradient of positions
  T* sender_row_tangents;    // for second derivatives

  explicit Shared(const FrameMessageArguments& a)
      : arena(a.shared), weights(a, arena), tables(a, a.chunks.own_nodes > 0 ? 0 : a.graph.num_nodes, 0, arena) {
    const Widths<T> width(a);
    if (!a.backward) return;
    group_sums = arena.take<char>(sum_groups(a.chunks.count) * WeightGradients<T>::bytes(a));
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
  NodeTables<T>(a, a.chunks.own_nodes, 0, arena);
  return {Shared<T>(a).arena.used(), arena.used()};
}

}  // namespace CLOF_ISA
}  // namespace clof
