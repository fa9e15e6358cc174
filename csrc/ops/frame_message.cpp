// Host side of frame_message and its backward pass on the CPU.
#include "frame_message.h"

#include "chunked.h"

namespace clof::host {
namespace {

// Edges of a chunk: a few tiles.
constexpr int64_t kSmallestChunk = 256;

// A thread's own tables of its chunk's nodes stay in its cache, and there are few of them. Where some chunks have many
// more nodes than others, all threads' tables could be larger than one of all nodes.
Chunks chunks_of(const Cuts& cuts, const Graph& graph) {
  const int64_t most = cuts.most_nodes(), count = cuts.count();
  const bool own = cuts.closed && most * count <= 2 * graph.num_nodes;
  return {count, cuts.first_node.data(), cuts.closed, own ? most : 0};
}

// Waves of the backward pass.
int64_t num_waves(const Cuts& cuts, const Graph& graph) {
  return (cuts.most_edges(graph) + kFrameMessageWave - 1) / kFrameMessageWave;
}

// A call on the CPU.
struct Call : FrameMessageCall<FrameMessageArguments> {
  Cuts cuts;
  Workshop workshop;

  template <class... Inputs> explicit Call(const Inputs&... inputs)
      : FrameMessageCall(inputs...),
        cuts(plan.graph, plan.crossings, num_chunks(plan.graph.num_edges, kSmallestChunk)) {
    a.chunks = chunks_of(cuts, plan.graph);
    a.unit = cpu::kernels().unit;
  }

  // Memory for the work; call when everything else in `a` is set.
  void allocate() {
    const FrameMessageMemory bytes = cpu::kernels().frame_message_memory(a);
    workshop = Workshop(h, bytes.shared, bytes.worker, a.chunks.count);
    a.shared = workshop.shared();
    a.workers = workshop.workers();
  }

  auto work(FrameMessageStage stage, int64_t wave) const {
    return [this, stage, wave](int64_t item, int64_t worker) {
      cpu::kernels().frame_message(a, stage, {item, worker, wave});
    };
  }

  // One stage: all items, each done by the thread that is free first.
  void run(FrameMessageStage stage, int64_t items, int64_t wave = 0) const { workshop.run(items, work(stage, wave)); }

  // A stage over the chunks that adds to the gradients of weights, and the one that takes its sums.
  void run_and_add(FrameMessageStage stage, FrameMessageStage add, int64_t wave = 0) const {
    workshop.run_in_turns(a.chunks.count, sum_groups(a.chunks.count), work(stage, wave), work(add, wave));
  }
};

// The operators, of the same inputs.
template <class... Inputs> struct FrameMessage {
  using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, std::vector<Tensor>>;
  using SecondGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, std::vector<Tensor>>;

  static std::tuple<Tensor, Tensor> forward(Inputs... inputs) {
    Call call(inputs...);
    FrameMessageArguments& a = call.a;
    Tensor message = empty(call.h, {a.graph.num_nodes, a.hidden}), vector = empty(call.pos, {a.graph.num_nodes, 3});
    a.message = message.data_ptr();
    a.vector = vector.data_ptr();
    call.allocate();
    call.run(FrameMessageStage::pack, 1);
    if (a.chunks.closed) {
      call.run(FrameMessageStage::closed, a.chunks.count);
    } else {
      call.run(FrameMessageStage::nodes, a.chunks.count);
      call.run(FrameMessageStage::forward, a.chunks.count);
    }
    return {message, vector};
  }

  static Gradients backward(const Tensor& grad_message, const Tensor& grad_vector, Inputs... inputs) {
    Call call(inputs...);
    return run_backward(call, grad_message, grad_vector);
  }

  static SecondGradients double_backward(const Tensor& grad_grad_h, const Tensor& grad_grad_pos,
                                         const OptionalTensor& grad_grad_edge_attr,
                                         const OptionalTensor& grad_grad_edge_weight, const Tensor& grad_message,
                                         const Tensor& grad_vector, Inputs... inputs) {
    Call call(inputs...);
    FrameMessageArguments& a = call.a;
    const Tensor of_h = checked_like(grad_grad_h, call.h, "grad_grad_h", "h");
    const Tensor of_pos = checked_like(grad_grad_pos, call.pos, "grad_grad_pos", "pos");
    const auto given = [](const OptionalTensor& tangent, const OptionalTensor& of, const char* name, const char* like) {
      return tangent.has_value() && of.has_value() ? OptionalTensor(checked_like(*tangent, *of, name, like))
                                                   : OptionalTensor();
    };
    const OptionalTensor of_edge_attr = given(grad_grad_edge_attr, call.edge_attr, "grad_grad_edge_attr", "edge_attr");
    const OptionalTensor of_edge_weight =
        given(grad_grad_edge_weight, call.edge_weight, "grad_grad_edge_weight", "edge_weight");
    Tensor message = empty(call.h, {a.graph.num_nodes, a.hidden}), vector = empty(call.pos, {a.graph.num_nodes, 3});
    a.second = true;
    a.tangents = {data(of_h),           data(of_pos),       data(of_edge_attr),
                  data(of_edge_weight), message.data_ptr(), vector.data_ptr()};
    auto [grad_h, grad_pos, grad_edge_attr, grad_edge_weight, grad_weights] =
        run_backward(call, grad_message, grad_vector);
    return {message, vector, grad_h, grad_pos, grad_edge_attr, grad_edge_weight, grad_weights};
  }

 private:
  // Edges that join chunks keep what they give to their senders, some at a time.
  static void run_in_waves(Call& call) {
    const FrameMessageArguments& a = call.a;
    call.run(FrameMessageStage::nodes, a.chunks.count);
    for (int64_t wave = 0; wave < num_waves(call.cuts, a.graph); ++wave) {
      call.run_and_add(FrameMessageStage::backward, FrameMessageStage::add_edge_sums, wave);
      call.run(FrameMessageStage::senders, kFrameMessageSlices, wave);
    }
    call.run_and_add(FrameMessageStage::grad_nodes, FrameMessageStage::add_node_sums);
  }

  static Gradients run_backward(Call& call, const Tensor& grad_message, const Tensor& grad_vector) {
    FrameMessageArguments& a = call.a;
    a.backward = true;
    FrameMessageGradients gradients(call, grad_message, grad_vector);
    gradients.grad_h = empty(call.h);
    a.grad_h = gradients.grad_h.data_ptr();
    call.allocate();
    call.run(FrameMessageStage::pack, 1);
    if (a.chunks.closed) call.run_and_add(FrameMessageStage::closed, FrameMessageStage::add_sums);
    else run_in_waves(call);
    call.run(FrameMessageStage::sum_weights, kFrameMessageSlices);
    call.run(FrameMessageStage::grad_weights, 1);
    return gradients.results();
  }
};

using CpuFrameMessage = WithFrameMessageInputs<FrameMessage>;

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) {
  library.impl("frame_message", TORCH_BOX(&clof::host::CpuFrameMessage::forward));
  library.impl("frame_message_backward", TORCH_BOX(&clof::host::CpuFrameMessage::backward));
  library.impl("frame_message_double_backward", TORCH_BOX(&clof::host::CpuFrameMessage::double_backward));
}
