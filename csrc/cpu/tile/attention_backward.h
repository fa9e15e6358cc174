// The backward pass of attention: the tile is computed again, and each receiver's edges get their gradients; what they
// give to their senders is gathered by sender afterwards.
#pragma once

#include "attention_block.h"

namespace clof {
inline namespace CLOF_ISA {

template <class T> struct AttentionBackward : AttentionBlock<T> {
  using Base = AttentionBlock<T>;
  using Base::a, Base::beside, Base::edge, Base::head, Base::width, Base::shared, Base::kept, Base::weights;

  T* slopes;      // (largest degree, pattern), gradients of the weights, then of the logits
  T* grad_edges;  // (kAttentionEdges, C)
  T* sums;        // (K D, C), the weight's gradient of one chunk

  AttentionBackward(const EdgeAttentionArguments& a, void* memory) : Base(a, memory) {
    slopes = this->arena.template take<T>(a.largest_degree * beside.pattern);
    grad_edges = this->arena.template take<T>(kAttentionEdges * edge);
    sums = this->arena.template take<T>(shared.size_of_sums());
  }

  void backward(int64_t chunk) {
    fill(sums, shared.size_of_sums(), T(0));
    this->for_tiles(chunk, [&](int64_t first, int64_t count) {
      // The second halves of the tiles follow the rows that are used of the first, so that sums over both are one.
      T* grad = this->query + count * width;
      this->load(a.query, first, count, shared.scale(), this->query);
      this->load(a.grad, first, count, T(1), grad);
      this->probe(this->query, count, this->probes);
      this->probe(grad, count, this->probes + count * this->stride());
      for (int64_t n = 0; n < count; ++n) {
        const int64_t at = n * this->stride(), behind = (count + n) * this->stride();
        receiver(first + n, this->probes + at, this->probes + behind, this->means + at, this->means + behind);
        beside.give(this->beside_row, head, T(1), this->out + n * a.heads * head);
      }
      this->add_mapped(count);
      this->write_out(first, count, shared.scale(), a.grad_query);
      for (int64_t k = 0; k < a.heads; ++k) {
        add_outer_of<OuterBlock>(this->query + k * a.head_width, width, a.head_width, this->means + k * edge,
                                 this->stride(), a.edge_width, 2 * count, sums + k * a.head_width * edge);
      }
    });
  }

  // (K, C) each: what the heads look for in an edge, and the gradient of their means; then sums of the edges that the
  // gradients of the queries are made of, and the means, for the weight's gradient. `beside_row` gets the keys' part of
  // the query's gradient.
  void receiver(int64_t node, const T* probe, const T* grad_mean, T* sum, T* mean) {
    this->scores(node, probe, shared.query + node * beside.row, shared.key, weights);
    this->weigh(node);
    this->scores(node, grad_mean, shared.grad + node * beside.row, shared.value, slopes);
    this->multiply_by_keep(node, slopes);
    through_softmax(node);
    this->add_edges(node, slopes, sum);
    this->add_edges(node, kept, mean);
    beside.weigh(this->degree(node), this->patterns(slopes), this->senders(shared.key, node), this->beside_row);
    write_edges(node, probe, grad_mean);
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
  void write_edges(int64_t node, const T* probe, const T* grad_mean) {
    const int64_t pattern = beside.pattern;
    for (int64_t first = 0; first < this->degree(node); first += kAttentionEdges) {
      const int64_t left = this->degree(node) - first, count = left < kAttentionEdges ? left : kAttentionEdges;
      fill(grad_edges, count * edge, T(0));
      add_mixed(slopes + first * pattern, pattern, count, probe, a.heads, edge, grad_edges);
      add_mixed(kept + first * pattern, pattern, count, grad_mean, a.heads, edge, grad_edges);
      for (int64_t r = 0; r < count; ++r) {
        const int64_t number = this->edge_number(node, first + r);
        write_row(grad_edges + r * edge, a.edge_width, a.grad_edge, a.dtype, number);
        for_registers<T>(pattern, [&](int64_t c) {
          const auto copy = [&](const T* from, T* to) {
            store(to + number * pattern + c, clof::CLOF_ISA::load(from + (first + r) * pattern + c));
          };
          copy(slopes, shared.slopes);
          copy(kept, shared.kept);
        });
      }
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
