// The backward pass of attention: the tile is computed again, and each receiver's edges get their gradients; what they
// give to their senders is gathered by sender afterwards.
#pragma once

#include "attention_block.h"

namespace clof {
inline namespace CLOF_ISA {

template <class T> struct AttentionBackward : AttentionBlock<T> {
  using Base = AttentionBlock<T>;
  using Base::a, Base::beside, Base::edge, Base::head, Base::width, Base::shared, Base::kept, Base::weights;

  T* grad;        // (tile, K D)
  T* slopes;      // (largest degree, pattern), gradients of the weights, then of the logits
  T* both;        // (kAttentionEdges, 2 K), those and `kept` side by side
  T* grad_edges;  // (kAttentionEdges, C)
  T* sums;        // (K D, C), the weight's gradient of one chunk

  AttentionBackward(const EdgeAttentionArguments& a, void* memory) : Base(a, memory) {
    grad = this->arena.template take<T>(kAttentionTile * width);
    slopes = this->arena.template take<T>(a.largest_degree * beside.pattern);
    both = this->arena.template take<T>(kAttentionEdges * 2 * a.heads);
    grad_edges = this->arena.template take<T>(kAttentionEdges * edge);
    sums = this->arena.template take<T>(shared.size_of_sums());
  }

  // Of a receiver in the tile: K rows of C for the logits, then K for the means.
  int64_t stride() const { return 2 * a.heads * edge; }

  void backward(int64_t chunk) {
    fill(sums, shared.size_of_sums(), T(0));
    this->for_tiles(chunk, [&](int64_t first, int64_t count) {
      this->load(a.query, first, count, shared.scale(), this->query);
      this->load(a.grad, first, count, T(1), grad);
      this->probe(this->query, count, this->probes, stride());
      this->probe(grad, count, this->probes + a.heads * edge, stride());
      for (int64_t n = 0; n < count; ++n) receiver(first + n, n);
      this->add_mapped(this->means, stride(), count);
      this->write_out(first, count, shared.scale(), a.grad_query);
      add_weight_gradients(count);
    });
  }

  // `means` gets what the queries' and the weight's gradients are made of.
  void receiver(int64_t node, int64_t n) {
    const T* probes = this->probes + n * stride();
    T* sums_of_edges = this->means + n * stride();
    this->scores(node, probes, shared.query + node * beside.row, shared.key, weights);
    this->weigh(node);
    this->scores(node, probes + a.heads * edge, shared.grad + node * beside.row, shared.value, slopes);
    this->multiply_by_keep(node, slopes);
    through_softmax(node);
    this->add_edges(node, slopes, sums_of_edges);
    this->add_edges(node, kept, sums_of_edges + a.heads * edge);
    beside.weigh(this->degree(node), this->patterns(slopes), this->senders(shared.key, node), this->beside_row);
    beside.give(this->beside_row, head, T(1), this->out + n * a.heads * head);
    write_edges(node, probes);
  }

  void through_softmax(int64_t node) const {
    const int64_t count = this->degree(node), pattern = beside.pattern;
    for_registers<T>(pattern, [&](int64_t c) {
      Register<T> mean(T(0));
      const auto at = [&](const T* rows, int64_t r) { return clof::CLOF_ISA::load(rows + r * pattern + c); };
      for (int64_t r = 0; r < count; ++r) mean = mean + at(weights, r) * at(slopes, r);
      for (int64_t r = 0; r < count; ++r) store(slopes + r * pattern + c, at(weights, r) * (at(slopes, r) - mean));
    });
  }

  // Gradients of the edges, and what the senders will read.
  void write_edges(int64_t node, const T* probes) {
    const int64_t heads = a.heads, pattern = beside.pattern;
    for (int64_t first = 0; first < this->degree(node); first += kAttentionEdges) {
      const int64_t left = this->degree(node) - first, count = left < kAttentionEdges ? left : kAttentionEdges;
      fill(grad_edges, count * edge, T(0));
      for (int64_t r = 0; r < count; ++r) {
        std::memcpy(both + r * 2 * heads, slopes + (first + r) * pattern, heads * sizeof(T));
        std::memcpy(both + (r * 2 + 1) * heads, kept + (first + r) * pattern, heads * sizeof(T));
      }
      add_mixed(both, 2 * heads, count, probes, 2 * heads, edge, grad_edges);
      for (int64_t r = 0; r < count; ++r) {
        const int64_t number = this->edge_number(node, first + r);
        write_row(grad_edges + r * edge, a.edge_width, a.grad_edge, a.dtype, number);
        std::memcpy(shared.slopes + number * pattern, slopes + (first + r) * pattern, pattern * sizeof(T));
        std::memcpy(shared.kept + number * pattern, kept + (first + r) * pattern, pattern * sizeof(T));
      }
    }
  }

  void add_weight_gradients(int64_t count) const {
    for (int64_t k = 0; k < a.heads; ++k) {
      T* to = sums + k * a.head_width * edge;
      const auto add = [&](const T* left, const T* right) {
        add_outer_of<OuterBlock>(left + k * a.head_width, width, a.head_width, right + k * edge, stride(), a.edge_width,
                                 count, to);
      };
      add(this->query, this->means);
      add(grad, this->means + a.heads * edge);
    }
  }

  // Those of this worker's last chunk to those of its group.
  void add_sums(int64_t chunk) const {
    add_to(shared.of_group(chunk % sum_groups(a.chunks)), sums, shared.size_of_sums());
  }

  void senders_of(int64_t chunk) {
    for (int64_t node = a.first_node[chunk]; node < a.first_node[chunk + 1]; ++node) {
      const int32_t* numbers = a.graph.by_sender + a.graph.sender_start[node];
      const int64_t count = a.graph.sender_start[node + 1] - a.graph.sender_start[node];
      const auto gather = [&](const T* by, const T* rows, void* to) {
        beside.weigh(
            count, [&](int64_t r) { return by + numbers[r] * beside.pattern; },
            [&](int64_t r) { return rows + a.graph.receiver[numbers[r]] * beside.row; }, this->beside_row);
        beside.give(this->beside_row, a.head_width, T(1), static_cast<T*>(to) + node * width);
      };
      gather(shared.slopes, shared.query, a.grad_key);
      gather(shared.kept, shared.grad, a.grad_value);
    }
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
