// Host side of edge_attention and its backward pass on the CPU.
#include "../cpu/kernels/edge_attention.h"

#include "chunked.h"

namespace clof::host {
namespace {

struct Call {
  Tensor query, key, value, edge, weight;
  std::optional<Tensor> keep;
  Plan plan;
  std::vector<int64_t> first_node;
  EdgeAttentionArguments a = {};
  Workshop workshop;

  Call(const Tensor& query_, const Tensor& key_, const Tensor& value_, const Tensor& edge_, const Tensor& weight_,
       const std::optional<Tensor>& keep_, const Tensor& edges, const Tensor& offsets, int64_t heads)
      : query(checked_query(query_, heads)), plan(edges, offsets, query) {
    key = checked_like(key_, query, "key", "query");
    value = checked_like(value_, query, "value", "query");
    edge = checked_shape(edge_, query, {plan.graph.num_edges, check::any}, "edge", "query");
    weight = checked_shape(weight_, query, {query.size(1), edge.size(1)}, "weight", "query");
    if (keep_.has_value()) keep = checked_shape(*keep_, query, {plan.graph.num_edges, heads}, "keep", "query");
    a.graph = plan.graph;
    a.dtype = storage_of(query, "query");
    a.heads = heads;
    a.head_width = query.size(1) / heads;
    a.edge_width = edge.size(1);
    a.query = data(query);
    a.key = data(key);
    a.value = data(value);
    a.edge = data(edge);
    a.weight = data(weight);
    a.keep = data(keep);
    cut();
  }

  static Tensor checked_query(const Tensor& query, int64_t heads) {
    check::shape(query, {check::any, check::any}, "query");
    if (query.scalar_type() != ScalarType::Float && query.scalar_type() != ScalarType::Double) {
      check::wrong_dtype(query, "float32 or float64", "query");
    }
    if (heads < 1 || query.size(1) % heads) {
      check::fail("query must have a multiple of heads, ", heads, ", columns; got ", query.size(1), ".");
    }
    return dense(query);
  }

  // Ranges of nodes with about equal numbers of edges; they depend on the graph alone.
  void cut() {
    const Graph& graph = a.graph;
    // Larger than elsewhere: the weight's gradient of a chunk is large beside the chunk.
    constexpr int64_t kSmallestChunk = 1024;
    a.chunks = num_chunks(graph.num_edges, kSmallestChunk);
    for (int64_t chunk = 0; chunk < a.chunks; ++chunk) {
      const int32_t target = int32_t(graph.num_edges * chunk / a.chunks);
      const int32_t* starts = graph.receiver_start;
      first_node.push_back(chunk == 0 ? 0 : std::lower_bound(starts, starts + graph.num_nodes, target) - starts);
    }
    first_node.push_back(graph.num_nodes);
    a.first_node = first_node.data();
    for (int64_t node = 0; node < graph.num_nodes; ++node) {
      const int64_t degree = graph.receiver_start[node + 1] - graph.receiver_start[node];
      a.largest_degree = std::max(a.largest_degree, degree);
    }
  }

  // Memory for the work; call when everything else in `a` is set.
  void allocate() {
    const EdgeAttentionMemory bytes = cpu::kernels().edge_attention_memory(a);
    workshop = Workshop(query, bytes.shared, bytes.worker, a.chunks);
    a.shared = workshop.shared();
    a.workers = workshop.workers();
  }

  auto work(EdgeAttentionStage stage) const {
    return [this, stage](int64_t item, int64_t worker) { cpu::kernels().edge_attention(a, stage, item, worker); };
  }

  void run(EdgeAttentionStage stage, int64_t items) const { workshop.run(items, work(stage)); }
};

Tensor edge_attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& edge,
                      const Tensor& weight, const std::optional<Tensor>& keep, const Tensor& edges,
                      const Tensor& offsets, int64_t heads) {
  Call call(query, key, value, edge, weight, keep, edges, offsets, heads);
  Tensor out = empty(call.query);
  call.a.out = out.data_ptr();
  call.allocate();
  call.run(EdgeAttentionStage::pack, heads);
  call.run(EdgeAttentionStage::nodes, call.a.chunks);
  call.run(EdgeAttentionStage::forward, call.a.chunks);
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> edge_attention_backward(const Tensor& grad_, const Tensor& query,
                                                                           const Tensor& key, const Tensor& value,
                                                                           const Tensor& edge, const Tensor& weight,
                                                                           const std::optional<Tensor>& keep,
                                                                           const Tensor& edges, const Tensor& offsets,
                                                                           int64_t heads) {
  Call call(query, key, value, edge, weight, keep, edges, offsets, heads);
  EdgeAttentionArguments& a = call.a;
  const Tensor grad = checked_like(grad_, call.query, "grad", "query");
  Tensor grad_query = empty(grad), grad_key = empty(grad), grad_value = empty(grad);
  Tensor grad_edge = empty(call.edge), grad_weight = empty(call.weight);
  a.grad = data(grad);
  a.grad_query = grad_query.data_ptr();
  a.grad_key = grad_key.data_ptr();
  a.grad_value = grad_value.data_ptr();
  a.grad_edge = grad_edge.data_ptr();
  a.grad_weight = grad_weight.data_ptr();
  a.backward = true;
  call.allocate();
  const int64_t groups = sum_groups(a.chunks);
  call.run(EdgeAttentionStage::pack, heads);
  call.run(EdgeAttentionStage::nodes, a.chunks);
  call.run(EdgeAttentionStage::clear_sums, groups);
  call.workshop.run_in_turns(a.chunks, groups, call.work(EdgeAttentionStage::backward),
                             call.work(EdgeAttentionStage::add_sums));
  call.run(EdgeAttentionStage::senders, a.chunks);
  call.run(EdgeAttentionStage::sum_weights, kEdgeAttentionSlices);
  call.run(EdgeAttentionStage::grad_weights, 1);
  return {grad_query, grad_key, grad_value, grad_edge, grad_weight};
}

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) {
  library.impl("edge_attention", TORCH_BOX(&clof::host::edge_attention));
  library.impl("edge_attention_backward", TORCH_BOX(&clof::host::edge_attention_backward));
}
