// Host side of mlp and its backward pass on the CPU.
#include "mlp.h"

#include "chunked.h"

namespace clof::host {
namespace {

// Rows of a chunk: little more than a tile, so that a batch of small graphs is shared among threads too.
constexpr int64_t kSmallestChunk = 128;

struct Call : MlpCall<MlpArguments> {
  Workshop workshop;

  using MlpCall::MlpCall;

  // Memory for the work; call when everything else in `a` is set.
  void allocate() {
    a.chunks = num_chunks(a.rows, kSmallestChunk);
    a.unit = cpu::kernels().unit;
    const MlpMemory bytes = cpu::kernels().mlp_memory(a);
    workshop = Workshop(inputs[0], bytes.shared, bytes.worker, a.chunks);
    a.shared = workshop.shared();
    a.workers = workshop.workers();
  }

  auto work(MlpStage stage) const {
    return [this, stage](int64_t item, int64_t worker) { cpu::kernels().mlp(a, stage, item, worker); };
  }

  void run(MlpStage stage, int64_t items) const { workshop.run(items, work(stage)); }
};

void run_forward(Call& call) {
  call.allocate();
  call.run(MlpStage::pack, 1);
  call.run(MlpStage::forward, call.a.chunks);
}

Tensor mlp(const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights, const Text& activation,
           bool activate_last, const Text& precision) {
  Call call(inputs, weights, activation, activate_last, precision);
  Tensor out = call.make_output();
  run_forward(call);
  return out;
}

void mlp_into(const Tensor& out, const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights,
              const Text& activation, bool activate_last, const Text& precision) {
  Call call(inputs, weights, activation, activate_last, precision);
  call.take_output(out);
  run_forward(call);
}

// The backward pass, or its derivative.
void run_backward(Call& call) {
  MlpArguments& a = call.a;
  a.backward = true;
  call.allocate();
  call.run(MlpStage::pack, 1);
  const int64_t groups = sum_groups(a.chunks);
  call.run(MlpStage::clear_sums, groups);
  call.workshop.run_in_turns(a.chunks, groups, call.work(MlpStage::backward), call.work(MlpStage::add_sums));
  call.run(MlpStage::sum_weights, kMlpSlices);
  call.run(MlpStage::grad_weights, 1);
}

std::tuple<std::vector<Tensor>, std::vector<Tensor>> mlp_backward(const Tensor& grad, const std::vector<Tensor>& inputs,
                                                                  const std::vector<Tensor>& weights,
                                                                  const Text& activation, bool activate_last,
                                                                  bool input_gradients, const Text& precision) {
  Call call(inputs, weights, activation, activate_last, precision);
  const MlpGradients gradients(call, grad, input_gradients);
  run_backward(call);
  return gradients.results();
}

std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>> mlp_double_backward(
    const std::vector<Tensor>& grad_grad_inputs, const Tensor& grad, const std::vector<Tensor>& inputs,
    const std::vector<Tensor>& weights, const Text& activation, bool activate_last, const Text& precision) {
  Call call(inputs, weights, activation, activate_last, precision);
  MlpArguments& a = call.a;
  if (grad_grad_inputs.size() != call.inputs.size()) {
    check::fail("grad_grad_inputs must hold ", call.inputs.size(), " tensors, as inputs does; got ",
                grad_grad_inputs.size(), ".");
  }
  std::vector<Tensor> tangents;
  for (size_t k = 0; k < call.inputs.size(); ++k) {
    tangents.push_back(checked_like(grad_grad_inputs[k], call.inputs[k], "each of grad_grad_inputs", "its input"));
    a.input_tangents[k] = data(tangents[k]);
  }
  const MlpGradients gradients(call, grad, true);
  const Tensor out = call.make_output();
  a.second = true;
  run_backward(call);
  const auto [grad_inputs, grad_weights] = gradients.results();
  return {out, grad_inputs, grad_weights};
}

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) {
  library.impl("mlp", TORCH_BOX(&clof::host::mlp));
  library.impl("mlp_into", TORCH_BOX(&clof::host::mlp_into));
  library.impl("mlp_backward", TORCH_BOX(&clof::host::mlp_backward));
  library.impl("mlp_double_backward", TORCH_BOX(&clof::host::mlp_double_backward));
}
