// Attention of a chunk of receivers, a tile of them at a time. Keys and values are linear in the edge's features, so
// the weight acts on a receiver's query, and on its weighted mean of edges, once for each receiver in place of each
// edge.
#pragma once

#include "../kernels/edge_attention.h"
#include "arena.h"
#include "attention_rows.h"
#include "linear_weights.h"

namespace clof {
inline namespace CLOF_ISA {

// Receivers in a tile, a multiple of kBlockRows, and edges of one receiver that are in the cache at a time.
constexpr int64_t kAttentionTile = 24;
constexpr int64_t kAttentionEdges = 64;

// What all threads share.
template <class T> struct AttentionShared {
  const EdgeAttentionArguments& a;
  SideBySide<T> beside;
  int64_t edge;  // padded columns of an edge
  Arena arena;
  T *key, *value;    // (N, row), heads side by side
  T *query, *grad;   // the same, in the backward pass; the query is scaled
  T *kept, *slopes;  // (E, pattern): weights after dropout, and gradients of the logits
  T* packed;
  T* sums;  // weights' gradients of each group of chunks

  explicit AttentionShared(const EdgeAttentionArguments& a)
      : a(a), beside(a.heads, a.head_width), edge(padded<T>(a.edge_width)), arena(a.shared) {
    const int64_t of_nodes = a.graph.num_nodes * beside.row;
    packed = arena.take<T>(a.heads * size_of_head());
    key = arena.take<T>(of_nodes);
    value = arena.take<T>(of_nodes);
    if (!a.backward) return;
    query = arena.take<T>(of_nodes);
    grad = arena.take<T>(of_nodes);
    kept = arena.take<T>(a.graph.num_edges * beside.pattern);
    slopes = arena.take<T>(a.graph.num_edges * beside.pattern);
    sums = arena.take<T>(sum_groups(a.chunks) * size_of_sums());
  }

  int64_t size_of_head() const {
    return Packed<T>::size(a.head_width, a.edge_width) + Packed<T>::size(a.edge_width, a.head_width);
  }
  int64_t size_of_sums() const { return a.heads * a.head_width * edge; }
  T* of_group(int64_t group) const { return sums + group * size_of_sums(); }

  // The head's D x C matrix, from its features to the edge's; and its transpose.
  Packed<T> to_edge(int64_t head) const { return matrix(packed + head * size_of_head(), a.head_width, a.edge_width); }
  Packed<T> from_edge(int64_t head) const {
    T* data = packed + head * size_of_head() + Packed<T>::size(a.head_width, a.edge_width);
    return matrix(data, a.edge_width, a.head_width);
  }
  static Packed<T> matrix(T* data, int64_t depth, int64_t columns) {
    return {data, depth, columns, Products{Form::plain, false}, nullptr};
  }

  void pack(int64_t head) const {
    // Padding is 0 everywhere.
    fill(packed + head * size_of_head(), size_of_head(), T(0));
    const T* rows = static_cast<const T*>(a.weight) + head * a.head_width * a.edge_width;
    const Columns weight{rows, a.edge_width, 0, a.edge_width};
    pack_rows(a.dtype, weight, a.head_width, to_edge(head), 0);
    pack_transposed(a.dtype, weight, a.head_width, from_edge(head), 0, 0);
  }

  void nodes(int64_t chunk) const {
    const int64_t width = a.heads * a.head_width;
    for (int64_t node = a.first_node[chunk]; node < a.first_node[chunk + 1]; ++node) {
      const auto take = [&](const void* from, T factor, T* to) {
        beside.take(static_cast<const T*>(from) + node * width, a.head_width, factor, to + node * beside.row);
      };
      take(a.key, T(1), key);
      take(a.value, T(1), value);
      if (!a.backward) continue;
      take(a.query, scale(), query);
      take(a.grad, T(1), grad);
    }
  }

  T scale() const { return T(1) / square_root(T(a.head_width)); }
};

// One thread's view of a call, and its tiles.
template <class T> struct AttentionBlock {
  const EdgeAttentionArguments& a;
  AttentionShared<T> shared;
  SideBySide<T> beside;
  int64_t edge, head, width;  // padded columns of an edge and of a head's features; columns of a node
  Arena arena;
  T* query;       // (tile, K D), scaled; in the backward pass (2, tile, K D), the gradient of the result behind it
  T* probes;      // (tile, K, C): what each head looks for in an edge; in the backward pass (2, tile, K, C)
  T* means;       // (tile, K, C): each head's mean of the edges; in the backward pass (2, tile, K, C)
  T* out;         // (tile, K, padded D)
  T* beside_row;  // (row,), one node's features, heads side by side
  T* zeros;       // one row of C
  T* edges;       // (kAttentionEdges, C)
  T* weights;     // (largest degree, pattern)
  T* kept;        // the same after dropout
  int64_t loaded_first = -1;

  AttentionBlock(const EdgeAttentionArguments& a, void* memory)
      : a(a),
        shared(a),
        beside(shared.beside),
        edge(shared.edge),
        head(padded<T>(a.head_width)),
        width(a.heads * a.head_width),
        arena(memory) {
    const int64_t parts = a.backward ? 2 : 1;
    query = arena.take<T>(kAttentionTile * parts * width);
    probes = arena.take<T>(kAttentionTile * parts * a.heads * edge);
    means = arena.take<T>(kAttentionTile * parts * a.heads * edge);
    out = arena.take<T>(kAttentionTile * a.heads * head);
    beside_row = arena.take<T>(beside.row);
    zeros = arena.take<T>(edge);
    edges = arena.take<T>(kAttentionEdges * edge);
    weights = arena.take<T>(a.largest_degree * beside.pattern);
    kept = arena.take<T>(a.largest_degree * beside.pattern);
  }

  const T* node_row(const void* tensor, int64_t node) const { return static_cast<const T*>(tensor) + node * width; }
  int64_t first_edge(int64_t node) const { return a.graph.receiver_start[node]; }
  int64_t degree(int64_t node) const { return first_edge(node + 1) - first_edge(node); }
  int64_t edge_number(int64_t node, int64_t r) const { return a.graph.by_receiver[first_edge(node) + r]; }
  static int64_t whole_blocks(int64_t count) { return (count + kBlockRows - 1) / kBlockRows * kBlockRows; }

  // The row of the sender of a receiver's edge r, of nodes' rows with heads side by side.
  auto senders(const T* rows, int64_t node) const {
    return [this, rows, node](int64_t r) { return rows + a.graph.sender[edge_number(node, r)] * beside.row; };
  }

  auto patterns(const T* rows) const {
    return [this, rows](int64_t r) { return rows + r * beside.pattern; };
  }

  // Tiles of about equal size.
  template <class Body> void for_tiles(int64_t chunk, const Body& body) {
    const int64_t first = a.first_node[chunk], count = a.first_node[chunk + 1] - first;
    const int64_t tiles = (count + kAttentionTile - 1) / kAttentionTile;
    fill(zeros, edge, T(0));
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t begin = first + count * tile / tiles, end = first + count * (tile + 1) / tiles;
      body(begin, end - begin);
    }
  }

  // Calls body(first, count) for a receiver's edges, as many at a time as `edges` holds.
  template <class Body> void for_edges(int64_t node, const Body& body) {
    const int64_t most = degree(node);
    for (int64_t first = 0; first < most; first += kAttentionEdges) {
      const int64_t count = most - first < kAttentionEdges ? most - first : kAttentionEdges;
      if (loaded_first != first_edge(node) + first) {
        loaded_first = first_edge(node) + first;
        for (int64_t r = 0; r < count; ++r) {
          read_row(a.edge, a.dtype, edge_number(node, first + r), a.edge_width, edges + r * edge);
        }
      }
      body(first, count);
    }
  }

  // Rows of the tile with a factor; rows behind the last one are zeros, because they take part in products.
  void load(const void* tensor, int64_t first, int64_t count, T factor, T* to) const {
    const T* from = node_row(tensor, first);
    for (int64_t c = 0; c < count * width; ++c) to[c] = factor * from[c];
    fill(to + count * width, (whole_blocks(count) - count) * width, T(0));
  }

  // Numbers of a receiver in (tile, K, C).
  int64_t stride() const { return a.heads * edge; }

  // (tile, K, C) from (tile, K D) by the weight.
  void probe(const T* from, int64_t count, T* to) const {
    for (int64_t k = 0; k < a.heads; ++k) {
      product(from + k * a.head_width, width, shared.to_edge(k), zeros, 0, to + k * edge, stride(),
              whole_blocks(count));
    }
  }

  // `out` += `means` by the transposed weight.
  void add_mapped(int64_t count) {
    for (int64_t k = 0; k < a.heads; ++k) {
      T* to = out + k * head;
      product(means + k * edge, stride(), shared.from_edge(k), to, a.heads * head, to, a.heads * head,
              whole_blocks(count));
    }
  }

  void write_out(int64_t first, int64_t count, T factor, void* tensor) const {
    T* to = static_cast<T*>(tensor) + first * width;
    for (int64_t n = 0; n < count; ++n)
      for (int64_t k = 0; k < a.heads; ++k)
        for (int64_t d = 0; d < a.head_width; ++d) *to++ = factor * out[(n * a.heads + k) * head + d];
  }

  // For each edge and head <row, probe> of the edge and of the sender, into rows of a pattern.
  void scores(int64_t node, const T* probe, const T* row, const T* of_senders, T* to) {
    const int64_t count = degree(node);
    fill(to, count * beside.pattern, T(0));
    beside.add_products(row, count, senders(of_senders, node), to);
    for_edges(node, [&](int64_t first, int64_t rows) {
      add_dots(edges, rows, probe, a.heads, edge, to + first * beside.pattern, beside.pattern);
    });
    for (int64_t r = 0; r < count; ++r) beside.repeat(to + r * beside.pattern);
  }

  // Softmax of the scores, then `kept` = weights * keep.
  void weigh(int64_t node) {
    const int64_t count = degree(node), pattern = beside.pattern;
    softmax_columns(weights, count, pattern);
    std::memcpy(kept, weights, count * pattern * sizeof(T));
    multiply_by_keep(node, kept);
  }

  void multiply_by_keep(int64_t node, T* rows) const {
    if (a.keep == nullptr) return;
    for (int64_t r = 0; r < degree(node); ++r) {
      const T* keep = static_cast<const T*>(a.keep) + edge_number(node, r) * a.heads;
      T* row = rows + r * beside.pattern;
      for (int64_t k = 0; k < a.heads; ++k) row[k] *= keep[k];
      beside.repeat(row);
    }
  }

  // to (K, C) = for each head the sum of the edges, each times its number in `by`.
  void add_edges(int64_t node, const T* by, T* to) {
    fill(to, a.heads * edge, T(0));
    for_edges(node, [&](int64_t first, int64_t rows) {
      add_outer_of<OuterBlock>(by + first * beside.pattern, beside.pattern, a.heads, edges, edge, a.edge_width, rows,
                               to);
    });
  }

  void forward(int64_t chunk) {
    for_tiles(chunk, [&](int64_t first, int64_t count) {
      load(a.query, first, count, shared.scale(), query);
      probe(query, count, probes);
      for (int64_t n = 0; n < count; ++n) {
        const int64_t node = first + n;
        beside.take(query + n * width, a.head_width, T(1), beside_row);
        scores(node, probes + n * stride(), beside_row, shared.key, weights);
        weigh(node);
        add_edges(node, kept, means + n * stride());
        beside.weigh(degree(node), patterns(kept), senders(shared.value, node), beside_row);
        beside.give(beside_row, head, T(1), out + n * a.heads * head);
      }
      add_mapped(count);
      write_out(first, count, T(1), a.out);
    });
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
